"""Environments, which a policy exchanges messages with during an episode."""
