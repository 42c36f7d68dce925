"""Simulated environments, and any Gymnasium task as a batched engine."""
