"""Checks of the algorithms: `llmrl verify`."""
