"""Reasoning as a search: the tree of an answer, the policy that grows it, the judge of its nodes."""
