"""How good it is: rollouts, ranking metrics, intervals, bounds, comparisons and the report."""
