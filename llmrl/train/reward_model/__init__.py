"""Train reward models."""
