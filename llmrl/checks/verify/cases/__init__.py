"""Worked cases: numbers from papers, and the code that answers them."""
