"""One file per world."""
