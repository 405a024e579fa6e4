"""A trained policy behind an OpenAI-compatible API."""
