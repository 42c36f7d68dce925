"""What we fit: item tower, state encoders, Q heads over the catalogue."""
