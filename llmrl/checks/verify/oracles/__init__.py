"""Float64 oracles: the objectives written a second time."""
