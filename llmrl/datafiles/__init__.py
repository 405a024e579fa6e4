"""Read rows of data from files and the hub."""
