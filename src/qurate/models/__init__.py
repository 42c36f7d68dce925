"""A trained ranker with what it needs to answer: its directory, histories, answers."""
