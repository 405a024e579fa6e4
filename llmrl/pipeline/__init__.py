"""Recipes of several stages: each stage is a run folder, fed by the outputs of the stages before it."""
