"""Making a group reward of any scorer."""
