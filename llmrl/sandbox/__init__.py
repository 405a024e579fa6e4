"""Running untrusted code within limits."""
