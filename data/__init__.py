"""Datasets, one file each; installed as llmrl.data."""

if __name__ != "llmrl.data":  # a second copy of every class would break isinstance and pickle
    raise ImportError("import llmrl.data, not data")
