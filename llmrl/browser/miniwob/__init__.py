"""MiniWoB++ (package `miniwob`, MIT): small tasks on pages of their own, each with a goal in words and a reward."""
