"""Benchmarks, one file each; installed as llmrl.eval."""

if __name__ != "llmrl.eval":  # a second copy of every class would break isinstance and pickle
    raise ImportError("import llmrl.eval, not eval")
