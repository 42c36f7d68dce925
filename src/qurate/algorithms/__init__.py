"""What is learned: objectives and their targets as pure functions, and the table of algorithms."""
