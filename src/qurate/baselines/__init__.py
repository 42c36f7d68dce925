"""Rankers without reinforcement."""
