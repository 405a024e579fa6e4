"""Do the four kinds of reward model learn? Sums by lines, on problems that they have not seen, each on a CPU.

    python benchmarks/reward_models.py --kind all

A tiny model is fine-tuned to add by lines, as in benchmarks/hacking.py. From it each kind is trained on answers,
half of them wrong: one line has another result, and the lines after it go on from that. Judged on held-out sums.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("outcome", "verifier", "process", "token")
COLUMNS = {"outcome": "preference", "verifier": "outcome", "process": "stepwise", "token": "outcome"}
FIGURES = {  # of each kind: the printed figures, and those of guessing
    "outcome": {"pairwise_accuracy": "0.5"},
    "verifier": {"accuracy": "0.5", "auc": "0.5", "auc_within_problem": "0.5", "best_of_4": "best_of_1"},
    "process": {
        "first_error_accuracy": "0.5 at best",
        "step_auc": "0.5",
        "step_recall/wrong": "0 if all are called right",
    },
    "token": {"accuracy": "0.5", "auc": "0.5", "auc_within_problem": "0.5", "best_of_4": "best_of_1"},
}
DATA = {"name": "arithmetic", "low": 10, "high": 49}
FILLER, MOST_FILLERS = "1+1=2", 6
ANSWERS = 4  # to each sum; half of them wrong, one by one
STEPS = 500
WRONG = (-10, -2, -1, 1, 2, 10)


def lines(a: int, b: int, fillers: int, wrong: int | None, draw: random.Random) -> tuple[list[str], list[float]]:
    """An answer by lines with its labels; line `wrong` has another result, from which the others go on."""

    def result(value: int, place: int) -> int:
        return value if place != wrong else value + draw.choice([delta for delta in WRONG if value + delta >= 0])

    ones = result(a % 10 + b % 10, 0)
    tens = result((a // 10 + b // 10) * 10, 1)
    total = result(tens + ones, 2)
    made = [f"{a % 10}+{b % 10}={ones}", f"{a // 10}0+{b // 10}0={tens}", *[FILLER] * fillers, f"{tens}+{ones}={total}"]
    place = None if wrong is None else wrong if wrong < 2 else len(made) - 1
    return made, [1.0 if place is None or k < place else 0.0 if k == place else -100.0 for k in range(len(made))]


def answers(split: str, seed: int) -> Iterator[dict[str, Any]]:
    """Right and wrong answers to the sums of a split, in turn."""
    from llmrl import plugins

    draw = random.Random(f"{split}/{seed}")
    for problem in plugins.build("data", {**DATA, "split": split}).problems():
        a, b = map(int, problem.id.removeprefix("arithmetic/").split("+"))
        for k in range(ANSWERS):
            fillers = 0
            while fillers < MOST_FILLERS and draw.random() < 0.5:
                fillers += 1
            steps, labels = lines(a, b, fillers, draw.randrange(3) if k % 2 else None, draw)
            yield {"problem": problem.id, "prompt": problem.messages, "completions": steps, "labels": labels}


def written(split: str, columns: str, seed: int, path: Path) -> Path:
    """A file of a split's answers in the columns of a kind."""
    made = list(answers(split, seed))
    if columns == "outcome":
        made = [
            {"problem": one["problem"], "prompt": one["prompt"], "response": "\n".join(one["completions"]),
             "label": int(0.0 not in one["labels"])} for one in made
        ]  # fmt: skip
    elif columns == "preference":
        made = [
            {"problem": right["problem"], "prompt": right["prompt"], "chosen": "\n".join(right["completions"]),
             "rejected": "\n".join(wrong["completions"])} for right, wrong in zip(made[::2], made[1::2], strict=True)
        ]  # fmt: skip
    path.write_text("".join(json.dumps(one) + "\n" for one in made), encoding="utf-8")
    return path


def start_model(work: Path, seed: int) -> Path:
    """The fine-tuned model that all kinds begin from, made once: that of the hacking experiment."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from hacking import start_model as made

    start: Path = made(work, seed)
    return start


def train(kind: str, work: Path, seed: int, steps: int) -> dict[str, Any]:
    """The report of a reward model of one kind, trained from the start model and judged on held-out sums."""
    from llmrl.evaluation.reward_model import run
    from llmrl.plugins import construct
    from llmrl.reward_models.recipe import RewardRecipe
    from llmrl.train.reward_model.run import train as learn

    columns = COLUMNS[kind]
    test = written("heldout", columns, seed, work / f"{columns}-test-{seed}.jsonl")
    values = {
        "kind": kind,
        "model": {"model_name_or_path": str(start_model(work, seed))},
        "data": {"train": str(written("train", columns, seed, work / f"{columns}-{seed}.jsonl")), "test": str(test)},
        "input": {"max_length": 96},
        "loss": {"positions": "all_tokens"} if kind == "verifier" else {},
        "train": {"max_steps": steps, "learning_rate": 2e-3, "per_device_train_batch_size": 64, "warmup_steps": 20,
                  "seed": seed, "logging_steps": 100, "output_dir": str(work), "run_name": f"{kind}-{seed}"},
    }  # fmt: skip
    folder = learn(construct(RewardRecipe, values, kind))
    return run(str(folder), str(test), columns).as_dict()  # type: ignore[arg-type]


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return "none" if value is None else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--work", type=Path, default=Path("runs/reward_models_benchmark"))
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    table = ["| kind | measure | held out | guessing | seconds |", "|---|---|---|---|---|"]
    for kind in KINDS if options.kind == "all" else (options.kind,):
        began = time.perf_counter()
        numbers = train(kind, work, options.seed, options.steps)
        for name, chance in FIGURES[kind].items():
            guess = shown(numbers[chance]) if chance in numbers else chance
            table.append(
                f"| {kind} | `{name}` | {shown(numbers[name])} | {guess} | {time.perf_counter() - began:.0f} |"
            )
    print("\n".join(table))


if __name__ == "__main__":
    main()
