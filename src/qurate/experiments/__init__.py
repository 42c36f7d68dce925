"""Whole studies: compare, evaluate, simulate, the demo."""
