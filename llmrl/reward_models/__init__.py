"""Reward models: what one is on disk, how its input becomes tokens, and scores by sequence, by step and by token."""
