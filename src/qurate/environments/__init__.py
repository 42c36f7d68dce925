"""Who acts: simulated customers, and any Gymnasium task."""
