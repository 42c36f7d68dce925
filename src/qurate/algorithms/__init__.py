"""Objectives and TD targets as pure functions, and the table of algorithms."""
