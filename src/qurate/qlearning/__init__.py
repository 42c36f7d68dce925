"""How we learn: TD targets as pure functions, one learner, a table of variants, loops as generators."""
