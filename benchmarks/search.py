"""Accuracy against tokens of each search at test time, on one tiny policy with one trained process model, on a CPU.

    python benchmarks/search.py --out docs/results/search

The policy is fine-tuned to add by lines (`2+4=6`, `10+30=40`, `40+6=46`), but stopped early, so that it errs; the
process model learned from the policy's own answers to other sums, whose lines a rule has labelled. Each strategy
answers the same held-out sums at several sizes, judged by the process model; the reference only counts. What is there
already is not asked again, so the command can be stopped and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

ROOT = Path(__file__).resolve().parents[1]
SFT_STEPS = 220
PROBLEMS = 200
ANSWERS = 6  # of each training sum, for the process model
LIMIT = 48  # tokens of an answer
SUMS = Benchmark(
    data={"name": "arithmetic", "low": 10, "high": 49, "split": "heldout"},
    reward={"name": "numeric"},
    sampling=Sampling(temperature=1.0, max_tokens=LIMIT),
    about="held-out sums of two numbers from 10 to 49, by lines",
)
CURVES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"name": "majority", "n": 1}],
    "majority": [{"name": "majority", "n": n} for n in (2, 4, 8, 16)],
    "best of n": [{"name": "best_of_n", "n": n} for n in (2, 4, 8, 16)],
    "weighted majority": [{"name": "weighted_majority", "n": n} for n in (2, 4, 8, 16)],
    "beam": [{"name": "beam", "width": w, "branch": b} for w, b in ((1, 2), (1, 4), (2, 4), (4, 4))],
    "diverse beam": [{"name": "beam", "width": w, "branch": b, "groups": w} for w, b in ((2, 2), (2, 4), (4, 4))],
    "refine": [{"name": "refine", "rounds": n} for n in (1, 3, 7)],
    "plan_mcts": [{"name": "plan_mcts", "iterations": n, "max_depth": 8} for n in (4, 8, 16)],
    "x1_mcts": [{"name": "x1_mcts", "iterations": n} for n in (4, 8, 16)],
}


def policy(work: Path, seed: int) -> Path:
    """The policy of a seed, made once."""
    from hacking import answer

    from llmrl import tiny
    from llmrl.plugins import build
    from llmrl.train.sft import sft

    made = work / f"policy-{seed}"
    if not (made / "config.json").exists():
        base = tiny.make(work / f"random-{seed}", vocab="arithmetic", hidden=64, layers=2, seed=seed)
        rows = [
            {"prompt": p.messages, "completion": [{"role": "assistant", "content": answer(*terms(p.id), 0)}]}
            for p in build("data", dict(SUMS.data) | {"split": "train"}).problems()
        ]
        sft(base, rows, made, max_steps=SFT_STEPS, learning_rate=2e-3, batch_size=64, warmup_steps=20, seed=seed)
    return made


def terms(problem: str) -> tuple[int, int]:
    """The two numbers of a problem, by its id."""
    first, second = map(int, problem.removeprefix("arithmetic/").split("+"))
    return first, second


def process_model(work: Path, model: Path, seed: int, engine: str) -> Path:
    """The process model of a seed, made once: of the policy's own answers to other sums, each line labelled by rule."""
    from llmrl.plugins import construct
    from llmrl.reward_models.recipe import RewardRecipe
    from llmrl.train.reward_model.run import train

    made = work / f"process-{seed}"
    if not made.exists():
        rows = asyncio.run(labelled(model, seed, engine))
        data = work / f"steps-{seed}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        values = {
            "kind": "process",
            "model": {"model_name_or_path": str(model)},
            "data": {"train": str(data)},
            "input": {"max_length": 96},
            "train": {"max_steps": 600, "learning_rate": 2e-3, "per_device_train_batch_size": 64, "warmup_steps": 20,
                      "seed": seed, "logging_steps": 100, "output_dir": str(work), "run_name": made.name},
        }  # fmt: skip
        train(construct(RewardRecipe, values, "process"))
    return made


async def labelled(model: Path, seed: int, engine: str) -> list[dict[str, Any]]:
    """Answers of the policy to the sums that it was fine-tuned on, with a label for each line."""
    from llmrl.evaluation.evaluate import seed_of
    from llmrl.evaluation.run import EvalSetup, local_player
    from llmrl.plugins import build
    from llmrl.reasoning.searcher import Searcher

    problems = list(build("data", dict(SUMS.data) | {"split": "train"}).problems())
    with local_player(str(model), EvalSetup(engine=engine), seed, LIMIT) as player:
        strategy = build("search", {"name": "majority", "n": ANSWERS})
        searcher = Searcher(engine=player.engine, chat=player.chat, strategy=strategy)
        plays = [searcher.play(p, replace(SUMS.sampling, seed=seed_of(seed, p.id, 0))) for p in problems]
        trees = [found.tree for found in await asyncio.gather(*plays)]
    rows = []
    for problem, tree in zip(problems, trees, strict=True):
        for steps in (tree.text(leaf).split("\n") for leaf in tree.leaves()):
            if all(step.strip() for step in steps):
                row = {"problem": problem.id, "prompt": problem.messages, "completions": steps}
                rows.append(row | {"labels": labels(problem.id, steps)})
    return rows


def labels(problem: str, steps: Sequence[str]) -> list[float]:
    """Labels of lines: 1 up to the first that is not right at its place, which has 0; none behind it."""
    from hacking import answer

    lines = answer(*terms(problem), 0).split("\n")
    wrong = next((k for k, step in enumerate(steps) if lines[k : k + 1] != [step]), len(steps))
    return [1.0 if k < wrong else 0.0 if k == wrong else -100.0 for k in range(len(steps))]


async def measure(model: Path, judge: Path, work: Path, seed: int, engine: str) -> list[dict[str, Any]]:
    """A point for each strategy and size: accuracy with its interval, tokens of a problem, seconds of all."""
    from llmrl.evaluation.evaluate import Plan, evaluate
    from llmrl.evaluation.run import EvalSetup, local_player
    from llmrl.evaluation.search import SearchGenerator
    from llmrl.plugins import build
    from llmrl.reasoning.judge import AnswerJudge
    from llmrl.reasoning.searcher import Searcher
    from llmrl.scoring.manager import GradingPool, as_group_reward

    points = []
    with GradingPool(1, 5.0) as pool, local_player(str(model), EvalSetup(engine=engine), seed, 3 * LIMIT) as player:
        reward = as_group_reward(build("reward", SUMS.reward), pool)
        scorer = as_group_reward(build("reward", {"name": "process_model", "path": str(judge)}), pool)
        for label, sizes in CURVES.items():
            for number, spec in enumerate(sizes):
                searcher = Searcher(
                    engine=player.engine,
                    chat=player.chat,
                    strategy=build("search", spec),
                    judge=AnswerJudge(scorer),
                    max_model_len=player.max_model_len,
                )
                began = time.perf_counter()
                generator = SearchGenerator(searcher, {**player.settings, "search": spec}, player.max_prompt_tokens)
                out = work / "eval" / f"{label.replace(' ', '_')}-{number}"
                plan = Plan(limit=PROBLEMS, seed=seed, temperature=1.0)
                result = await evaluate("__main__:SUMS", generator, reward, out, plan, concurrency=PROBLEMS)
                point = {"strategy": label, "options": spec, "tokens": result["mean_tokens"]}
                points.append(point | result["metrics"]["avg@1"] | {"seconds": time.perf_counter() - began})
                print(json.dumps(points[-1]), flush=True)
    return points


def draw(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a curve for each strategy, with the plain answer as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    panel = figure.subplots()
    for label in CURVES:
        own = sorted(
            (point for point in points if point["strategy"] == label), key=lambda point: float(point["tokens"])
        )
        x, y = [point["tokens"] for point in own], [point["value"] for point in own]
        if label == "plain":
            panel.axhline(y[0], color="grey", linewidth=0.8)
            panel.plot(x, y, "k*", markersize=10, label=label)
            continue
        spread = [[p["value"] - p["low"] for p in own], [p["high"] - p["value"] for p in own]]
        panel.errorbar(x, y, yerr=spread, marker="o", markersize=4, capsize=2, linewidth=1.2, label=label)
    panel.set(xscale="log", xlabel="generated tokens of a problem", ylabel="accuracy", title="Search at test time")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def table(points: Sequence[dict[str, Any]]) -> str:
    """The points as a table of Markdown."""
    lines = ["| strategy | options | tokens | accuracy | seconds |", "|---|---|---:|---|---:|"]
    for point in points:
        options = ", ".join(f"{key} {value}" for key, value in point["options"].items() if key != "name")
        accuracy = f"{point['value']:.3f} ({point['low']:.3f} to {point['high']:.3f})"
        lines.append(
            f"| {point['strategy']} | {options} | {point['tokens']:.0f} | {accuracy} | {point['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--work", type=Path, default=Path("runs/search_benchmark"))
    parser.add_argument("--out", type=Path, default=Path("runs/search_benchmark/search"), help="without suffix")
    options = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model = policy(work, options.seed)
    judge = process_model(work, model, options.seed, options.engine)
    points = asyncio.run(measure(model, judge, work, options.seed, options.engine))
    options.out.with_suffix(".json").write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    draw(points, options.out.with_suffix(".png"))
    print(table(points))


if __name__ == "__main__":
    main()
