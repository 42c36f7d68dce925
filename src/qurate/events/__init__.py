"""Event logs: reading, recognising layouts, validating."""
