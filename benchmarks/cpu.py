"""Measure settings on a CPU: waiting of threads, size of a micro-batch, the policy whose top-p decides.

    python benchmarks/cpu.py waiting            # seconds to sample 64 completions, by how threads wait
    python benchmarks/cpu.py waiting --busy 1   # the same beside a process that never rests
    python benchmarks/cpu.py micro-batch        # seconds of an optimiser step, by train.tokens_per_device
    python benchmarks/cpu.py blocks             # seconds to sample 64 completions, by the size of vLLM's cache blocks
    python benchmarks/cpu.py logprobs           # of vLLM, as dictionaries and flat
    python benchmarks/cpu.py rows               # the same for padded rows, and rows that share their prompt
    python benchmarks/cpu.py seeds              # seconds to sample 64 completions, by seeds of their own and without
    python benchmarks/cpu.py optimizer          # seconds of a step of AdamW on 25M parameters, as it is and fused
    python benchmarks/cpu.py profile            # what an optimiser step and sampling spend on matrix products
    python benchmarks/cpu.py mask-policy        # seconds to sample 64 completions, by whose top-p vLLM samples within

The model is that of grpo_vs_trl.py: 25M parameters, random weights, a vocabulary of bytes. Settings take turns, so that
other work of the machine meets all of them; medians over the rounds, the first of a process left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

PROMPTS, GENERATIONS, PROMPT, COMPLETION = 8, 8, 58, 128
WAITING = {
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 100000": {"GOMP_SPINCOUNT": "100000"},
    "nothing set": {},
    "active": {"OMP_WAIT_POLICY": "ACTIVE"},
}
BUDGETS = (512, 1024, 2048, 4096, 16384)
LIMIT_S = 900.0  # of one process


def prompts(count: int = PROMPTS, tokens: tuple[int, int] = (PROMPT, PROMPT)) -> list[list[int]]:
    """Token ids of arbitrary text, which the demo's model has, too."""
    random = Random(0)
    return [[random.randrange(10, 90) for _ in range(random.randint(*tokens))] for _ in range(count)]


def spent(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    began, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - worked


def sample(
    model: str,
    rounds: int,
    top_p: float = 1.0,
    completion: int = COMPLETION,
    seeded: bool = True,
    watch: Callable[[Callable[[], Any]], tuple[float, float]] | None = None,
    **settings: Any,
) -> list[tuple[float, float]]:
    """Seconds to sample a step's completions, as the loop samples them, the prefix cache emptied before each time."""
    from llmrl.aio import wait
    from llmrl.engines.vllm import Vllm
    from llmrl.types import Sampling

    engine = Vllm(**settings).start(
        model, dtype="float32", seed=0, max_model_len=PROMPT + COMPLETION, stop_token_ids=[]
    )

    async def step() -> None:
        asked = [
            engine.generate(prompt, Sampling(max_tokens=completion, seed=seed if seeded else None, top_p=top_p))
            for prompt in prompts()
            for seed in range(GENERATIONS)
        ]
        engine._llm.reset_prefix_cache()  # as every weight sync does
        await asyncio.gather(*asked)

    try:
        return [(watch if watch and turn else spent)(lambda: wait(step())) for turn in range(rounds + 1)][1:]
    finally:
        engine.close()


def waiting(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """A fresh process for each setting and round: threads read the setting once, when they start."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAITING}
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, __file__, "sample", "--model", options.model, "--rounds", "2"]
    root = Path(__file__).resolve().parents[1]
    for _ in range(options.rounds):
        for name, setting in WAITING.items():
            env = clean | setting | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed ({done.returncode}):\n{done.stderr[-3000:]}")
            taken[name] += json.loads(done.stdout.splitlines()[-1])
    return taken


def mask_policy(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Engines after each other, in one process."""
    own = {"top_p": 0.9, "return_kept_ids": True}
    kinds: dict[str, dict[str, Any]] = {"no top-p": {}, "its own": own, "a copy's": own | {"mask_update_steps": 20}}
    return {name: sample(options.model, options.rounds, **settings) for name, settings in kinds.items()}


def seeds(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Engines after each other, there and back: requests with seeds, over which vLLM's sampler loops, and without."""
    taken: dict[str, list[tuple[float, float]]] = {"with seeds": [], "without": []}
    for name in ("with seeds", "without", "without", "with seeds"):
        taken[name] += sample(options.model, options.rounds, completion=93, seeded=name == "with seeds")
    return taken


def optimizer(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Steps of AdamW in turns, on the model's weights and gradients of 0."""
    import torch
    from transformers import AutoModelForCausalLM

    weights = list(AutoModelForCausalLM.from_pretrained(options.model).parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    kinds = {"as it is": torch.optim.AdamW(weights), "fused": torch.optim.AdamW(weights, fused=True)}
    return {name: [spent(kind.step) for _ in range(options.rounds + 1)][1:] for name, kind in kinds.items()}


def profile(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Operators of an optimiser step on forced rows, and of sampling: their shares, printed."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    def watched(work: Callable[[], Any]) -> tuple[float, float]:
        with profiler(activities=[ProfilerActivity.CPU]) as told:
            times = spent(work)
        operators = told.key_averages()
        whole = sum(each.self_cpu_time_total for each in operators)
        print(f"{whole / 1e6:.2f} s in operators of {times[0]:.2f} s on the wall")
        for each in sorted(operators, key=lambda one: -one.self_cpu_time_total)[:6]:
            print(f"{each.self_cpu_time_total / whole:7.1%} {each.self_cpu_time_total / 1e6:6.2f} s {each.key}")
        return times

    forced = credited(PROMPTS, [COMPLETION] * 64, (75, 85))
    trained = steps(argparse.Namespace(model=options.model, rounds=1), {"train": {}}, forced, watched)
    return trained | {"sampling": sample(options.model, 1, completion=93, watch=watched)}


def blocks(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Engines after each other, in one process, there and back."""
    taken: dict[str, list[tuple[float, float]]] = {}
    for size, completion in ((128, 64), (32, 64), (32, 64), (128, 64), (128, 14), (32, 14), (32, 14), (128, 14)):
        name = f"block {size}, 64 x {completion}"
        taken.setdefault(name, []).extend(sample(options.model, options.rounds, completion=completion, block_size=size))
    return taken


def logprobs(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Hold log-probabilities of 1,024 completions of 256 tokens as vLLM does, and read them, on the host alone."""
    from vllm.logprobs import append_logprobs_for_next_position, create_sample_logprobs

    from llmrl.engines.vllm.outputs import sampled_logprobs

    ids = list(range(256))

    def dictionaries() -> None:
        held = [create_sample_logprobs(False) for _ in range(1024)]
        for token in ids:
            for one in held:
                append_logprobs_for_next_position(one, [token], [-1.0], [None], [1], 0)
        for one in held:
            array("f", (entry[token].logprob for token, entry in zip(ids, one, strict=True)))

    def flat() -> None:
        held = [create_sample_logprobs(True) for _ in range(1024)]
        for token in ids:
            for one in held:
                append_logprobs_for_next_position(one, [token], [-1.0], [None], [1], 0)
        for one in held:
            sampled_logprobs(one, ids)

    taken: dict[str, list[tuple[float, float]]] = {"dictionaries": [], "flat": []}
    for _ in range(options.rounds):
        for work in (dictionaries, flat, flat, dictionaries):
            taken[work.__name__].append(spent(work))
    return taken


def micro_batch(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Optimiser steps of GRPO on one step's rows, which end at random as completions of random weights do."""
    drawn = Random(0)
    ends = [next((i for i in range(1, COMPLETION) if drawn.random() < 1 / 260), COMPLETION) for _ in range(64)]
    settings = {str(budget): {"tokens_per_device": budget} for budget in BUDGETS}
    return steps(options, settings, credited(PROMPTS, ends))


def rows(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """The same with padded rows, and with rows behind one another of which neighbours share their prompt."""
    drawn = Random(0)
    tail = [min(1500, max(1, round(drawn.lognormvariate(math.log(100), math.log(10) / 2.326)))) for _ in range(64)]
    ends = [min(COMPLETION, 1 + int(drawn.expovariate(1 / 200))) for _ in range(64)]
    shapes = {
        "short answers": credited(32, [drawn.randint(2, 5) for _ in range(32 * GENERATIONS)], (14, 16)),
        "natural": credited(8, ends, (75, 85)),
        "heavy tail": credited(8, tail, (80, 80)),
        "long prompts": credited(4, [drawn.randint(20, 60) for _ in range(4 * GENERATIONS)], (600, 600)),
        "equal, nothing shared": credited(16, [120] * 2 * 16, (7, 7)),
    }
    settings: dict[str, dict[str, Any]] = {"padded": {"packing": False}, "by rows": {"packing": "auto"}}
    return {
        f"{shape}, {name}": times
        for shape, credit in shapes.items()
        if not options.shapes or shape in options.shapes
        for name, times in steps(options, settings, credit).items()
    }


def credited(groups: int, lengths: Sequence[int], prompt_tokens: tuple[int, int] = (PROMPT, PROMPT)) -> list[Any]:
    """GRPO's rows: groups of one prompt each, completions of these lengths in turn."""
    from llmrl.algorithms.grpo import GRPO
    from llmrl.samples import Sample

    def row(prompt: list[int], group: int, episode: int, length: int) -> Sample:
        random = Random(f"{group}/{episode}")
        tokens = [*prompt, *(random.randrange(10, 90) for _ in range(length))]
        turns = [0 if i >= len(prompt) else -1 for i in range(len(tokens))]
        return Sample(
            group=str(group),
            episode=episode,
            reward=float(episode % 3),
            columns={"token_ids": tokens, "turn_ids": turns},
        ).assign(old_logprobs=-5.5, sampled_logprobs=-5.5)

    each = len(lengths) // groups
    return GRPO().credit(
        [
            row(prompt, i, j, lengths[i * each + j])
            for i, prompt in enumerate(prompts(groups, prompt_tokens))
            for j in range(each)
        ]
    )


def steps(
    options: argparse.Namespace,
    settings: Mapping[str, Mapping[str, Any]],
    credit: Sequence[Any],
    watch: Callable[[Callable[[], Any]], tuple[float, float]] | None = None,
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of optimiser steps on these rows, settings in turns, there and back."""
    from llmrl.algorithms.grpo import GRPO
    from llmrl.recipe import parse
    from llmrl.train.learners import Learners
    from llmrl.train.parallel import accelerator

    def model(train: Mapping[str, Any]) -> Learners:
        tree = {"model": {"policy": options.model}, "data": {"name": "gsm8k"}, "reward": {"name": "numeric"}}
        recipe = parse(tree | {"algorithm": {"name": "grpo"}, "train": {"report_to": "none", **train}})
        return Learners(recipe, accelerator(recipe.train), frozenset())

    (update,) = GRPO().updates(0)
    models = {name: model(train) for name, train in settings.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    norms: dict[str, float] = {}

    def step(name: str) -> None:
        ((_, fitted),) = models[name].fit(credit, update, seed=0, rate=0.0)
        norms[name] = fitted.metrics["grad_norm"]

    for turn in range(options.rounds + 1):
        for name in models if turn % 2 else reversed(models):
            spending = (watch if watch and turn else spent)(lambda name=name: step(name))  # type: ignore[misc]
            taken[name] += [spending] if turn else []
    print("gradient norms:", ", ".join(f"{name} {norm:.7g}" for name, norm in norms.items()))
    return taken


def show(taken: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """A line each."""
    for name, times in taken.items():
        wall, work = (median(one[i] for one in times) for i in (0, 1))
        print(f"{name:>20}: {wall:6.2f} s, {work:6.2f} s of the processor ({len(times)} times)")
    print(f"command: python {' '.join(sys.argv)}; {len(os.sched_getaffinity(0))} cores")


def _rest_never() -> None:
    while True:
        pass


MEASURES = {
    "waiting": waiting,
    "blocks": blocks,
    "logprobs": logprobs,
    "micro-batch": micro_batch,
    "rows": rows,
    "seeds": seeds,
    "optimizer": optimizer,
    "profile": profile,
    "mask-policy": mask_policy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*MEASURES, "sample"), help="sample: one process of `waiting`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, help="processes that never rest, beside")
    parser.add_argument("--shapes", nargs="+", help="of `rows`, such as 'natural'; all without")
    parser.add_argument("--model", help="made where it is not given")
    options = parser.parse_args()
    if options.what == "sample":
        print(json.dumps(sample(options.model, options.rounds)))
        return
    from llmrl import tiny

    busy = [multiprocessing.Process(target=_rest_never, daemon=True) for _ in range(options.busy)]
    with tempfile.TemporaryDirectory() as folder:
        options.model = options.model or str(tiny.make(folder, hidden=512, layers=8, max_positions=2048))
        try:
            for process in busy:
                process.start()
            show(MEASURES[options.what](options))
        finally:
            for process in busy:
                process.kill()


if __name__ == "__main__":
    main()
