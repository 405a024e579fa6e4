"""Write rows of data: synthetic data, labels, contamination checks."""
