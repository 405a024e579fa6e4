"""What a policy talks to during an episode."""
