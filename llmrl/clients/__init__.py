"""HTTP clients: retries, a cache, chat completions."""
