"""Plans of runs, before they begin: memory, tokens and time, batches in TRL's words, and warnings."""
