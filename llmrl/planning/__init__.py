"""What a run will take, before it begins: memory, tokens and time, batches in TRL's words, and warnings."""
