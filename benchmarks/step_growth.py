"""How a step of GRPO grows: processor seconds of its phases when completions, lengths, prompts or processes double.

    OMP_NUM_THREADS=1 python benchmarks/step_growth.py --out benchmarks/step_growth.json

Each measure is a process of its own: a model of 0.8M parameters, vLLM in process, completions of one length (their end
is never sampled), three steps of which the first is left out. Phases: `generate` (episodes played and scored),
`credit`, `train` (log-probabilities included), `sync`. Two processes run by DDP and by ZeRO-2; of those process 0 is
measured, whose share of a step is half. The exponent is the slope of a line through the logarithms: 1 doubles with what
doubles.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.resources import files
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

BASE = {"prompts": 8, "generations": 8, "length": 32, "prompt_words": 8}
SWEEPS: dict[str, dict[str, Sequence[int]]] = {
    "completions": {"generations": (8, 16, 32, 64)},
    "lengths": {"length": (32, 64, 128, 256)},
    "prompts": {"prompts": (8, 16, 32, 64)},
    "prompt lengths": {"prompt_words": (8, 16, 32, 64)},
}
LAUNCHES = {"DDP": "ddp.yaml", "ZeRO-2": "zero2.yaml"}
PHASES = ("generate", "credit", "train", "sync")
LIMIT_S = 900.0  # of one process
STEPS = 3


def one(shape: dict[str, int], model: str, folder: Path) -> dict[str, float]:
    """Measure a shape in this process, or this rank: medians over its steps."""
    from llmrl.recipe import parse
    from llmrl.train import weight_sync
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    words = ["apples"] * shape["prompt_words"]
    data = folder / "problems.jsonl"
    rows = [
        {"prompt": f"Add {i} and {7 * i} {' '.join(words)}", "answer": "0"} for i in range(shape["prompts"] * STEPS)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spent: dict[str, float] = defaultdict(float)
    taken: list[dict[str, float]] = []

    def metered(call: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **options: Any) -> Any:
            began = process_time()
            try:
                made = call(*args, **options)
                return list(made) if isinstance(made, Iterator) else made
            finally:
                spent[phase] += process_time() - began

        return timed

    def keep(*_: Any) -> None:
        taken.append({phase: spent.pop(phase, 0.0) for phase in PHASES})

    recipe = parse(
        {
            "model": {"policy": model},
            "data": {"name": "jsonl", "path": str(data)},
            "reward": {"name": "grpo_vs_trl:digits"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "llmrl_side:Endless"},
            "rollout": {
                "num_generations": shape["generations"],
                "prompts_per_step": shape["prompts"],
                "max_completion_length": shape["length"],
                "max_prompt_length": 1024,
            },
            "train": {"max_steps": STEPS, "save_steps": 0, "output_dir": str(folder), "report_to": "none"},
        }
    )
    weight_sync.send = metered(weight_sync.send, "sync")
    with Run(recipe, on_step=keep) as run:
        (policy,) = run.policies
        run.source.next = metered(run.source.next, "generate")  # type: ignore[method-assign]
        policy.adaptation.credit = metered(policy.adaptation.credit, "credit")  # type: ignore[method-assign]
        policy.learners.annotate = metered(policy.learners.annotate, "train")  # type: ignore[method-assign]
        policy.learners.fit = metered(policy.learners.fit, "train")  # type: ignore[method-assign]
        train(run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {phase: median(step[phase] for step in taken[1:]) for phase in PHASES} | {"peak_mb": peak}


def measure(shape: dict[str, int], model: str, launch: str | None = None) -> dict[str, float]:
    """The same in a fresh process, or two.

    Raises:
        RuntimeError: it fails; has the end of what it wrote.
    """
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        given = json.dumps({"shape": shape, "model": model, "folder": folder})
        command = [sys.executable]
        if launch is not None:
            config = Path(str(files("llmrl.recipes"))) / "accelerate" / launch
            command += ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"]
            command += ["--main_process_port", "0"]
        done = subprocess.run(
            [*command, __file__, "--one", given],
            env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        out = Path(folder) / "measured.json"
        if not out.exists():
            raise RuntimeError(f"{shape} {launch or ''} failed ({done.returncode}):\n{done.stderr[-3000:]}")
        measured: dict[str, float] = json.loads(out.read_text())
        return measured


def exponents(sizes: Sequence[int], measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Slope of each phase's seconds, and of the memory, over the sizes, both as logarithms."""
    x = [math.log2(size) for size in sizes]
    middle = sum(x) / len(x)
    found = {}
    for name in measured[0]:
        y = [math.log2(max(1e-6, one[name])) for one in measured]
        slope = sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)
        found[name] = round(slope, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", choices=list(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--launches", nargs="*", choices=list(LAUNCHES), default=list(LAUNCHES))
    parser.add_argument("--out", type=Path, default=Path("step_growth.json"))
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder = Path(options.one["folder"])
        measured = one(options.one["shape"], options.one["model"], folder)
        if os.environ.get("RANK", "0") == "0":
            (folder / "measured.json").write_text(json.dumps(measured))
        return
    from llmrl import tiny

    told: dict[str, Any] = {"command": "python " + " ".join(sys.argv), "base": BASE, "sweeps": {}, "processes": {}}
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny.make(folder, max_positions=2048))
        for sweep in options.sweeps:
            ((key, sizes),) = SWEEPS[sweep].items()
            rows = [measure(BASE | {key: size}, model) for size in sizes]
            told["sweeps"][sweep] = {"sizes": sizes, "measured": rows, "exponents": exponents(sizes, rows)}
            print(sweep, told["sweeps"][sweep]["exponents"], flush=True)
        shape = BASE | {"prompts": 32}
        runs = {"one": measure(shape, model)} | {
            name: measure(shape, model, LAUNCHES[name]) for name in options.launches
        }
        told["processes"] = {"shape": shape, "measured": runs}
        print(json.dumps(runs, indent=1))
    options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
