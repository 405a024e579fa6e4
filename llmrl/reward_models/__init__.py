"""Reward models: their files, their input as tokens, and their scores by sequence, by step and by token."""
