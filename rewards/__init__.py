"""Verifiers and reward models, one file each; installed as llmrl.rewards."""

if __name__ != "llmrl.rewards":  # a second copy of every class would break isinstance and pickle
    raise ImportError("import llmrl.rewards, not rewards")
