"""Make a group reward of any scorer."""
