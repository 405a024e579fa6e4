"""A page in the browser over the folders of runs, and the same episodes in a terminal. Never imports torch."""
