"""Durable storage of events and decisions."""
