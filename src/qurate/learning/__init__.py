"""How we learn: one learner, loops as generators, checkpoints."""
