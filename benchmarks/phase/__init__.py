"""Whether the probability of a phase orders oxides that were made."""
