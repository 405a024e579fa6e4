"""Conversations with simulated users: their contract, and episodes."""
