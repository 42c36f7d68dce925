"""Benchmarks of speed and memory: `qurate bench`."""
