"""The loop and the trained models."""
