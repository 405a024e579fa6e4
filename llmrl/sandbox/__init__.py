"""Run untrusted code within limits."""
