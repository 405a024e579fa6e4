"""Costs of a step beside its models: from the episodes that ranks exchange to micro-batches, and the checkpoint.

    python benchmarks/host_side.py                               # 1,024 episodes of 8,192 tokens, in one turn and four
    python benchmarks/host_side.py --before TREE                 # another checkout first, by the same measurement
    python benchmarks/host_side.py --episodes 64 --tokens 2048   # a smaller step

No model and no engine runs: episodes are made up, and a model's columns are random tensors. Every shape of every tree
is measured in a fresh process with one thread. `processor` is `time.process_time`; `peak` is how far the resident
memory of the process rose above what it was when the phase began (Linux's VmHWM, reset before each phase); `held` is
resident memory, after a collection, above what it was before there were episodes. A token is one of a sample, prompts
included; text is 4 characters a token.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
SHAPES = {"one turn": 1, "four turns in two rows": 4}
SIBLINGS, PROMPT, BUDGET = 8, 256, 16384
MODELS = {"old_logprobs": 1, "ref_logprobs": 1, "values": 1}  # columns, with the number of their axes
LIMIT_S = 3600.0  # of one process
STEP = ("gather", "to_samples", "assign", "credit of GRPO", "credit of PPO", "metrics of PPO", "release", "collate")
BESIDE = ("checkpoint", "restore")


@dataclass(frozen=True)
class Cost:
    """Cost of a phase."""

    processor_s: float
    wall_s: float
    peak: float | None  # bytes a token; None where the system does not tell
    held: float  # bytes a token, by everything so far


@dataclass(frozen=True)
class Tree:
    """The calls that are measured, and in what form a tree takes numbers."""

    to_samples: Callable[[Any], Sequence[Any]]
    with_views: Callable[[Any, Sequence[Any]], Any]  # the episode with its columns in the memory of its samples
    balance: Callable[..., Any]
    column: Callable[[Any], Any]  # a column of a model, from the tensor that the model gives
    numbers: Callable[[str, Any], Any]  # a column of a completion, as an engine gives it
    released: Callable[[Sequence[Any]], Sequence[Any]]  # the samples without what only credit reads
    keeps_batches: bool  # all micro-batches are made before the first is used
    save: Callable[[Path, Any], None]
    load: Callable[[Path, Any], Any]


def find(*places: str) -> Any:
    """The first of `module:name` that this tree has; None where it has none."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


def discover() -> Tree:
    """The names of the tree that is imported: those of 0.1.0, or today's."""
    as_arrays = find("llmrl.trajectories:to_tree") is not None
    numpy_samples = find("llmrl.samples:Sample") is not None
    return Tree(
        to_samples=find("llmrl.rollout.samples:to_samples", "llmrl.rollout.worker:to_samples", "llmrl.rollout:rows"),
        with_views=find("llmrl.rollout.samples:with_views") or (lambda episode, samples: episode),
        balance=find("llmrl.batch:balance_across_ranks", "llmrl.batch:deal"),
        column=(lambda tensor: tensor.numpy()) if numpy_samples else (lambda tensor: tensor.tolist()),
        numbers=as_array if as_arrays else lambda _code, numbers: np.asarray(numbers).tolist(),
        released=(lambda kept: [one.on_device() for one in kept]) if as_arrays else list,
        keeps_batches=not numpy_samples,
        save=save_arrays if as_arrays else save_lists,
        load=load_arrays if as_arrays else load_lists,
    )


def as_array(code: str, numbers: Any) -> array[Any]:
    """The standard library's array, without Python numbers, whose remains would count as held."""
    made: array[Any] = array(code)
    made.frombytes(np.asarray(numbers, np.dtype(code)).tobytes())
    return made


def save_arrays(folder: Path, groups: Any) -> None:
    """As the asynchronous source and the checkpoint do."""
    trees = [[find("llmrl.trajectories:to_tree")(one) for one in group] for group in groups]
    find("llmrl.train.state_file:write")(folder, {"step": 1, "source": {"pending": trees}})


def load_arrays(folder: Path, groups: Any) -> Any:
    trees = find("llmrl.train.state_file:read")(folder)["source"]["pending"]
    from_tree = find("llmrl.trajectories:from_tree")
    return [[from_tree(one, group[0].problem) for one in trees[i]] for i, group in enumerate(groups)]


def save_lists(folder: Path, groups: Any) -> None:
    """As 0.1.0 did."""
    saved = find("llmrl.sources.asynchronous:_saved")
    text = json.dumps({"step": 1, "source": {"pending": [[saved(one) for one in group] for group in groups]}})
    (folder / "run.json").write_text(text, encoding="utf-8")


def load_lists(folder: Path, groups: Any) -> Any:
    trees = json.loads((folder / "run.json").read_text(encoding="utf-8"))["source"]["pending"]
    adapter = find("llmrl.sources.asynchronous:_TRAJECTORY")
    return [
        [adapter.validate_python({**one, "problem": group[0].problem}) for one in trees[i]]
        for i, group in enumerate(groups)
    ]


class Meter:
    """Clocks and memory of the phases of one process."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._base = self._settled()
        self.costs: dict[str, Cost] = {}

    def __call__(self, name: str, work: Callable[..., Any], *args: Any) -> Any:
        """Call `work` and write down its cost under the name."""
        before = self._settled()
        resets = reset_peak()
        wall, processor = time.perf_counter(), time.process_time()
        result = work(*args)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        peak = (memory("VmHWM") - before) / self._tokens if resets else None
        self.costs[name] = Cost(processor, wall, peak, (self._settled() - self._base) / self._tokens)
        return result

    def _settled(self) -> int:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return memory("VmRSS")


def memory(name: str) -> int:
    """Bytes, from `/proc/self/status`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def reset_peak() -> bool:
    """From here on VmHWM tells the peak; False where the system does not allow it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def episodes(tree: Tree, count: int, tokens: int, turns: int) -> list[list[Any]]:
    """Groups of made-up trajectories, each `tokens` long in all; of several turns the second half rewrites history."""
    from llmrl.types import Completion, Problem, Score, Trajectory, Turn

    random, said = np.random.default_rng(0), tokens // turns - PROMPT
    groups = []
    for number in range(count // SIBLINGS):
        problem = Problem(id=str(number), messages=[{"role": "user", "content": "x" * 4 * PROMPT}])
        shared = tree.numbers("i", random.integers(1000, 150_000, PROMPT))
        group = []
        for episode in range(SIBLINGS):
            played: list[Any] = []
            for turn in range(turns):
                prompt = shared
                if turn % 2:  # goes on from the turn before it
                    last = played[-1]
                    prompt = tree.numbers("i", np.concatenate([last.prompt_ids, last.completion.token_ids, shared]))
                elif turn:
                    prompt = tree.numbers("i", np.concatenate([[7], shared[1:]]))
                ids, logprobs = random.integers(1000, 150_000, said), -random.random(said)
                columns = {"token_ids": tree.numbers("i", ids), "logprobs": tree.numbers("f", logprobs)}
                completion = Completion(**columns, finish="stop", version=0)
                played.append(Turn(prompt_ids=prompt, completion=completion, text="word" * said))
            score = Score(float(episode % 2), "correct" if episode % 2 else "wrong", {"numeric": float(episode % 2)})
            place = {"group": str(number), "episode": episode}
            group.append(Trajectory(problem=problem, turns=played, status="done", score=score, **place))  # type: ignore[arg-type]
        groups.append(group)
    return groups


def exchanged(mine: list[Any]) -> tuple[Any, int]:
    """The groups as other ranks get them, and how many bytes those are; what played them forgets them."""
    packed = (find("llmrl.train.exchange:pack") or (lambda items: (pickle.dumps(items),)))(mine.pop())
    unpack = find("llmrl.train.exchange:unpack") or (lambda packed: pickle.loads(packed[0]))
    return unpack(packed), sum(len(part) for part in packed)


def flat(tree: Tree, groups: list[list[Any]]) -> list[Any]:
    """The samples of all episodes, which share their memory where the tree can do that."""
    made = [[tree.to_samples(episode) for episode in group] for group in groups]
    groups[:] = [list(map(tree.with_views, group, parts)) for group, parts in zip(groups, made, strict=True)]
    return [sample for parts in made for samples in parts for sample in samples]


def annotated(tree: Tree, samples: Sequence[Any], columns: list[Mapping[str, Any]]) -> list[Any]:
    """The samples with the columns of the models, whose tensors are used up."""
    columns.reverse()
    return [
        sample.assign(**{name: tree.column(tensor) for name, tensor in columns.pop().items()}) for sample in samples
    ]


def batches(tree: Tree, samples: Sequence[Any]) -> int:
    """Make the packed micro-batches of a step; returns their number."""
    from llmrl.batch import collate

    lengths = [len(sample.token_ids) for sample in samples]
    (share,) = tree.balance(lengths, [[i] for i in range(len(samples))], 1, BUDGET, True)
    made = (collate([samples[i] for i in indices], True) for indices in share)
    return len(list(made)) if tree.keeps_batches else sum(1 for _ in made)


def synced(save: Callable[[Path, Any], None], folder: Path, groups: Any) -> None:
    """Written, and on the disk."""
    save(folder, groups)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def measure(shape: str, count: int, tokens: int) -> dict[str, Any]:
    """Every phase of a step of one shape, in this process."""
    import torch

    from llmrl.algorithms.grpo import GRPO
    from llmrl.algorithms.ppo import PPO

    torch.set_num_threads(1)
    tree = discover()
    grpo = GRPO(beta=0.04, num_iterations=2)
    ppo = PPO(kl_coef=0.05, lam=0.95, num_ppo_epochs=2, bootstrap_truncated=True, whiten_advantages=True)
    step(Meter(1), tree, episodes(tree, SIBLINGS, 4096, 1), grpo, ppo)  # what is imported and allocated once
    meter = Meter(count * tokens)
    groups, size = meter("gather", exchanged, [episodes(tree, count, tokens, SHAPES[shape])])
    with tempfile.TemporaryDirectory() as folder:
        meter("checkpoint", synced, tree.save, Path(folder), groups)
        written = sum(path.stat().st_size for path in Path(folder).iterdir())
        same = meter("restore", tree.load, Path(folder), groups) == groups
    sizes = step(meter, tree, groups, grpo, ppo)
    sizes |= {"pickled_bytes": size, "checkpoint_bytes": written, "restored_is_equal": same}
    return {**sizes, "costs": {name: asdict(cost) for name, cost in meter.costs.items()}}


def step(meter: Meter, tree: Tree, groups: Any, grpo: Any, ppo: Any) -> dict[str, Any]:
    """From trajectories to micro-batches; how many tokens and micro-batches there were."""
    import torch

    samples = meter("to_samples", flat, tree, groups)
    names = dict(MODELS)  # where PPO bootstraps from one number, its critic fills that and no column
    names |= {"last_values": 0} if "last_values" in (find("llmrl.columns:COLUMNS") or ()) else {"next_values": 1}
    filled = [{name: torch.rand((len(sample.token_ids),) * axes) for name, axes in names.items()} for sample in samples]
    samples = meter("assign", annotated, tree, samples, filled)
    meter("credit of GRPO", grpo.credit, samples)
    samples = meter("credit of PPO", ppo.credit, samples)
    meter("metrics of PPO", ppo.metrics, samples)
    samples = meter("release", tree.released, samples)
    made = meter("collate", batches, tree, samples)
    return {"tokens": sum(len(sample.token_ids) for sample in samples), "micro_batches": made}


def of_tree(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every shape in a checkout, each in a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    shapes = {}
    for shape in SHAPES:
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", shape]
        command += ["--episodes", str(options.episodes), "--tokens", str(options.tokens)]
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"{root}, {shape}: exit code {done.returncode}\n{done.stderr[-4000:]}")
        shapes[shape] = json.loads(done.stdout.splitlines()[-1])
        print(f"{root.name}, {shape}: measured", file=sys.stderr, flush=True)
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "shapes": shapes}


def machine() -> dict[str, Any]:
    """Processor, versions and load."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    return {"cpu": model, "cores": os.cpu_count(), "load_average": os.getloadavg(), "versions": versions}


def table(found: Mapping[str, Any]) -> str:
    """Processor seconds, wall seconds, peak and held bytes a token, of every tree in turn."""
    lines = ["| shape | phase | tree | processor s | wall s | peak B/token | held B/token |", "|---" * 7 + "|"]
    for shape in SHAPES:
        costs = {name: tree["shapes"][shape]["costs"] for name, tree in found["trees"].items()}
        for phase in (*STEP, *BESIDE):
            for tree, cost in costs.items():
                seconds = f"{cost[phase]['processor_s']:.2f} | {cost[phase]['wall_s']:.2f}"
                peak = "-" if cost[phase]["peak"] is None else f"{cost[phase]['peak']:.0f}"
                lines.append(f"| {shape} | {phase} | {tree} | {seconds} | {peak} | {cost[phase]['held']:.1f} |")
        for tree, cost in costs.items():
            sums = " | ".join(f"{sum(cost[phase][clock] for phase in STEP):.2f}" for clock in ("processor_s", "wall_s"))
            lines.append(f"| {shape} | from gather to collate | {tree} | {sums} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1024, help=f"a multiple of {SIBLINGS}")
    parser.add_argument("--tokens", type=int, default=8192, help=f"of an episode, more than {6 * PROMPT}")
    parser.add_argument("--before", type=Path, metavar="TREE", help="another checkout, measured first")
    parser.add_argument("--json", type=Path, default=HERE / "benchmarks" / "host_side.json", metavar="OUT")
    parser.add_argument("--measure", choices=list(SHAPES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.episodes % SIBLINGS or options.episodes < SIBLINGS or options.tokens <= 6 * PROMPT:
        parser.error(f"expected episodes in groups of {SIBLINGS}, each longer than {6 * PROMPT} tokens")
    if options.measure:
        print(json.dumps(measure(options.measure, options.episodes, options.tokens)))
        return
    found: dict[str, Any] = {"machine": machine(), "episodes": options.episodes, "tokens": options.tokens, "trees": {}}
    if options.before:
        found["trees"]["before"] = of_tree(options.before.resolve(), options)
    found["trees"]["after"], found["machine"]["load_average_after"] = of_tree(HERE, options), os.getloadavg()
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found), options.json, sep="\n\n")


if __name__ == "__main__":
    main()
