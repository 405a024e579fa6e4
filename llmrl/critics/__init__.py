"""Layers of critics, and the folder in which a trained one lies: for training, and for what decodes with it."""
