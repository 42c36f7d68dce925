"""Replay: stored events and transitions, and the samplers that draw batches."""
