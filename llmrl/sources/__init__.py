"""Where a step's samples come from."""
