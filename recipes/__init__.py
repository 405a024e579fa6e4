"""Runs that are known to work, as YAML; installed as llmrl.recipes."""
