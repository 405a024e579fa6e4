"""Sources: they produce the samples of a step."""
