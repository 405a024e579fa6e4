"""Curricula: they choose the problems that a source plays next."""
