"""How fast it is: every figure of `qurate bench`, measured beside what the machine itself can do."""
