"""Checks of this machine: `llmrl doctor`."""
