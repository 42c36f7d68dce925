"""From scores to what is shown: selection rules, slates, merchandising rules, exact propensities."""
