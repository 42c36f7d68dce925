"""Evaluation: rollouts, ranking metrics, confidence intervals, comparisons, the report."""
