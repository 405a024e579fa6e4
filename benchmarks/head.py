"""Seconds and memory of log-probabilities and entropies of a large vocabulary, forward and backward.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/head.py
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/head.py --tree ../another  # the same by another checkout

One pass a process: what the second finds in memory is another matter.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout of llmrl")
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--vocabulary", type=int, default=152_000)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--chunk-mb", type=float, default=256.0)
    options = parser.parse_args()
    sys.path.insert(0, str(options.tree.resolve()))
    import torch

    from llmrl.ops.logprobs import pieces, token_logprobs

    torch.manual_seed(0)
    head = torch.nn.Linear(options.hidden, options.vocabulary, bias=False)
    states = torch.randn(options.tokens, options.hidden, requires_grad=True)
    targets = torch.randint(options.vocabulary, (options.tokens,))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    logprobs, entropy = token_logprobs(states, head, targets, chunk_mb=options.chunk_mb)
    logprobs.sum().backward()
    spent = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert states.grad is not None
    assert head.weight.grad is not None
    print(
        f"{spent:.2f} processor seconds, {grown:.0f} MB on top, "
        f"{pieces(options.tokens, options.vocabulary, options.chunk_mb)} pieces; mean log-probability "
        f"{float(logprobs.detach().mean()):.6f}, mean entropy {float(entropy.detach().mean()):.6f}, gradients "
        f"{float(states.grad.norm()):.6f} and {float(head.weight.grad.norm()):.6f}"
    )


if __name__ == "__main__":
    main()
