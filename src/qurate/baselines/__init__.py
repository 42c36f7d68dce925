"""Rankers without reinforcement learning."""
