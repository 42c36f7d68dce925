"""The command line: commands, arguments, output."""
