"""Train reward models on labelled files that no rule can judge: tiny ones, from random weights, on a CPU.

    python benchmarks/labelled_rewards.py --data DIR --json benchmarks/labelled_rewards.json

Each file is parted into five; each part is judged by a model that learned from the other four, its tokenizer
included, so that every row is judged once and by a model that has not seen it. Guesses stand beside each figure.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDS = 5
Row = dict[str, Any]


@dataclass(frozen=True)
class Labelled:
    """A file, and the model that learns from it."""

    path: str
    kind: str
    columns: str
    texts: Callable[[Row], Sequence[str]]  # what the tokenizer is made from
    key: str  # the column by which a row is known again
    hidden: int = 32
    layers: int = 1
    train: Mapping[str, Any] = field(default_factory=dict)


def last_replies(row: Row) -> list[str]:
    """The last replies of a pair of dialogues."""
    return [row[name].rpartition("\n\nAssistant:")[2] for name in ("chosen", "rejected")]


def steps(row: Row) -> list[str]:
    return [row["question"], *row["steps"]]


FILES = {
    "hh_harmless": Labelled("hh_rlhf/harmless_base_dev.jsonl.gz", "outcome", "preference", last_replies, "problem",
                            train={"num_train_epochs": 2, "per_device_train_batch_size": 32}),
    "bigbench_mistake": Labelled("step_labels/bigbench_mistake_dev.jsonl", "process", "first_error", steps, "question",
                                 layers=2, train={"num_train_epochs": 6}),
    "mr_gsm8k": Labelled("step_labels/mr_gsm8k_wrong_dev.jsonl", "process", "first_error", steps, "question",
                         hidden=64, layers=2, train={"num_train_epochs": 15}),
}  # fmt: skip


def load(path: Path) -> list[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return list(map(json.loads, lines))


def base(of: Labelled, rows: Sequence[Row], folder: Path) -> Path:
    """A random model whose tokenizer was made from these rows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from llmrl import tiny

    tokenizer = tiny.make_tokenizer("text").train_new_from_iterator([t for row in rows for t in of.texts(row)], 2000)
    tiny.make(folder, hidden=of.hidden, layers=of.layers)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, vocab_size=len(tokenizer))).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


def learned(of: Labelled, rows: Sequence[Row], test: Path, work: Path) -> Path:
    """The folder of a reward model that learned from these rows."""
    from llmrl.plugins import construct
    from llmrl.reward_models.recipe import RewardRecipe
    from llmrl.train.reward_model.run import train

    values = {
        "kind": of.kind,
        "model": {"model_name_or_path": str(base(of, rows, work / "base"))},
        "data": {"train": str(written(work / "train.jsonl", rows)), "test": str(test), "columns": of.columns},
        "input": {"template": "{{ response }}" if of.kind == "outcome" else "{{ prompt }}\n{{ response }}",
                  "max_length": 2048} | ({"separator": "\n"} if of.kind == "process" else {}),
        "train": {"learning_rate": 1e-3, "weight_decay": 0.1, "warmup_steps": 20, "logging_steps": 100,
                  "per_device_train_batch_size": 16, "output_dir": str(work), "run_name": "model", **of.train},
    }  # fmt: skip
    return train(construct(RewardRecipe, values, of.path))


def written(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class HeldOut:
    """Five models as one: each answer is scored by the one that has not learned from it."""

    def __init__(self, models: Sequence[Any], parts: Sequence[Sequence[Any]]) -> None:
        self.card, self.models, self.parts = models[0].card, models, parts
        self.scored: list[Any] = []

    def sequences(self, answers: Sequence[Any]) -> list[Any]:
        return self._scored("sequences", answers)

    def steps(self, answers: Sequence[Any]) -> list[Any]:
        return self._scored("steps", answers)

    def _scored(self, how: str, answers: Sequence[Any]) -> list[Any]:
        """The rows stand in the order of the parts."""
        each, at = len(answers) // sum(map(len, self.parts)), 0
        self.scored = []
        for model, part in zip(self.models, self.parts, strict=True):
            self.scored += getattr(model, how)(answers[at : at + each * len(part)])
            at += each * len(part)
        return self.scored

    def right(self, rows: Sequence[Any]) -> list[bool]:
        """Tell of each row of the last report whether the better answer scored more or the first error was found."""
        from llmrl.ops.scores import first_below

        if self.card.kind == "outcome":
            pairs = zip(self.scored[::2], self.scored[1::2], strict=True)
            return [better.logits[0] > worse.logits[0] for better, worse in pairs]
        firsts = [first_below([1.0 if label < 0 else label for label in row.labels]) for row in rows]
        return [first_below(one.logits, 0.0) == first for one, first in zip(self.scored, firsts, strict=True)]


def guesses(of: Labelled, rows: Sequence[Any]) -> dict[str, float]:
    """Guesses without a model: the shorter answer, the position of a step, that all is right."""
    from llmrl.ops.judgement import roc_auc

    if of.kind == "outcome":
        return {
            "the shorter is better": sum(len(r.chosen.response) < len(r.rejected.response) for r in rows) / len(rows)
        }
    places = [(-k, label > 0.5) for row in rows for k, label in enumerate(row.labels) if label >= 0]
    sound = sum(0.0 not in row.labels for row in rows) / len(rows)
    firsts = [row.labels.index(0.0) for row in rows if 0.0 in row.labels]
    most = max(set(firsts), key=firsts.count)
    return {
        "step_auc by place": roc_auc([float(k) for k, _ in places], [right for _, right in places]) or 0.5,
        "first_error_accuracy, none": sound,
        f"first_error_accuracy, step {most + 1}": firsts.count(most) / len(rows),
    }


def by_rule(data: Path) -> dict[str, Any]:
    """Judge without a model: the reward `steps_rule`, on the steps of arithmetic and on solutions in words."""
    from llmrl.rewards.steps_rule import calculations, holds

    def wrong(lines: Sequence[str]) -> list[int]:
        return [k for k, line in enumerate(lines) if not all(map(holds, calculations(line)))]

    figures: dict[str, Any] = {}
    arithmetic = [r for r in load(data / FILES["bigbench_mistake"].path) if r["task"] == "multistep_arithmetic"]
    words = load(data / FILES["mr_gsm8k"].path)
    for name, rows, first in (
        ("multistep_arithmetic", arithmetic, lambda row: row["first_error_step_0based"]),
        ("mr_gsm8k", words, lambda row: row["first_error_step_1based"] - 1),
    ):
        placed = [(row, next(iter(wrong(row["steps"])), None)) for row in rows]
        misses = [row["id"] for row, place in placed if place != first(row)]
        early = [row["id"] for row, place in placed if place is not None and (first(row) is None or place < first(row))]
        figures[name] = {"rows": len(rows), "found": len(rows) - len(misses), "too_early": early, "misses": misses}
    solutions = load(data / "gsm8k_model_solutions/dev.jsonl")
    for right in (True, False):
        chosen = [row for row in solutions if row["is_correct"] == right]
        blamed = [row["id"] for row in chosen if wrong(row["solution"].split("\n"))]
        figures[f"gsm8k_model_solutions, {'right' if right else 'wrong'}"] = {"rows": len(chosen), "blamed": blamed}
    return figures


def judged(of: Labelled, data: Path, work: Path) -> dict[str, Any]:
    """The report over all rows, each held out once."""
    from llmrl.evaluation.reward_model import report
    from llmrl.reward_models.model import load as load_model
    from llmrl.reward_models.training_rows import read

    found = load(data / of.path)
    if of.kind == "outcome":  # the reader of steps takes `problem` for the question
        found = [{**row, "problem": row["id"]} for row in found]
    random.Random(0).shuffle(found)
    models, parts = [], []
    for fold in range(FOLDS):
        place = work / str(fold)
        place.mkdir(parents=True, exist_ok=True)
        test = written(place / "test.jsonl", found[fold::FOLDS])
        others = [row for n, row in enumerate(found) if n % FOLDS != fold]
        models.append(load_model(str(learned(of, others, test, place))))
        parts.append(read(of.columns, str(test), None).kept)  # type: ignore[arg-type]
    rows = [row for part in parts for row in part]
    five = HeldOut(models, parts)
    figures = report(five, rows).as_dict() | {"guesses": guesses(of, rows)}  # type: ignore[arg-type]
    ids = {row[of.key]: row["id"] for row in found}
    misses = [ids[row.problem] for row, right in zip(rows, five.right(rows), strict=True) if not right]
    return figures | {"misses": misses}


def short(value: Any) -> Any:
    """Figures for the eye: of a list its length, of a number three digits."""
    if isinstance(value, dict):
        return {key: short(one) for key, one in value.items()}
    return len(value) if isinstance(value, list) else round(value, 3) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--files", nargs="*", default=[*FILES, "steps_rule"], choices=[*FILES, "steps_rule"])
    parser.add_argument("--work", type=Path, default=Path("runs/labelled_rewards"))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    figures = {}
    for name in options.files:
        began = time.perf_counter()
        if name == "steps_rule":
            figures[name] = by_rule(options.data)
        else:
            figures[name] = judged(FILES[name], options.data, options.work.resolve() / name)
        figures[name]["seconds"] = time.perf_counter() - began
        print(f"{name}: {json.dumps(short(figures[name]))}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
