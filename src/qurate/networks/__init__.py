"""Q-networks: item tower, state encoders, heads, and their action values."""
