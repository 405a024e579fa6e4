"""Stored answers as training samples: formats of rows, their order, their tokens, and columns kept beside them."""
