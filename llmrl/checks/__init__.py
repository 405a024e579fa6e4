"""Checks of machines, algorithms and rewards: `llmrl doctor`, `verify`, `audit-reward`."""
