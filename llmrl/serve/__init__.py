"""Serve a trained policy behind an OpenAI-compatible API, and rewards behind HTTP."""
