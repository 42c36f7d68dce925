"""From an event log to a dataset of states, actions, rewards and successors."""
