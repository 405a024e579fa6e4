"""A step of a run again, from its record: what it did, and what another algorithm or reward would have done."""
