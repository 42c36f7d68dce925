"""A trained ranker and all it needs to answer: directory, histories, answers."""
