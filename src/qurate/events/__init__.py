"""What happened: the event log, its layouts and its checks."""
