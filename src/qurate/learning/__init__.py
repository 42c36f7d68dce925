"""The learner, the training loops and checkpoints."""
