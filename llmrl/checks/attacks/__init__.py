"""Attacks on rewards: `llmrl audit-reward`."""
