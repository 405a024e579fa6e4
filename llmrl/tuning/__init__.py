"""Search for the settings of a recipe by several objectives: runs, and the front of the best."""
