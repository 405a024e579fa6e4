"""Train policies by trained rewards alone, of six kinds, on a CPU, and judge them by the true rule.

    python benchmarks/learned_rewards.py --seed 0 --json benchmarks/learned_rewards_0.json
    python benchmarks/learned_rewards.py --table benchmarks/learned_rewards_?.json

Replies have one to four lines, each kind (`ok dear`) or rude (`ok fool`); a reply is right if all its lines are kind.
A policy is fine-tuned to write any of them; each reward is trained from that policy on rows that a rule has labelled,
judged on rows it has not seen, and then rewards the policy, alone, by GRPO. The rule is the gold reward, logged with
weight 0. SALMON's model learns to read principles; it is then shown one of them. HERON's pairs come from
`llmrl data heron`'s tree: kind first, then short.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("ok", "yes", "so")
LINE = f"(?:{'|'.join(WORDS)}) dear"
MOST = 4  # lines
KINDS = ("outcome", "verifier", "process", "token", "salmon", "heron")
PRINCIPLES = {"kind": ("be kind", "be rude"), "brief": ("be brief", "be long")}
TEMPLATE = "{{ response }}\n{{ prompt }}\n{% for one in principles %}- {{ one }}\n{% endfor %}so"
LIMIT_S = 1800.0
FIGURES = {"outcome": "pairwise_accuracy", "verifier": "accuracy", "process": "step_accuracy", "token": "accuracy"}
FIRST, LAST = 3, 5  # steps that are averaged

Row = dict[str, Any]


def share(lines: Sequence[str]) -> float:
    """Share of the lines that are kind."""
    return sum("dear" in line for line in lines) / len(lines)


def asked(random: Random) -> list[Row]:
    return [{"role": "user", "content": f"say {random.randrange(1000)}"}]


@dataclass(frozen=True)
class Toy:
    """Replies, and the rows that each kind of reward learns from; a method's name is the kind's."""

    least: int  # lines of a reply

    @property
    def rule(self) -> Row:
        """The truth, as options of the reward `regex`."""
        return {"pattern": rf"(?:{LINE}\n){{{self.least - 1},{MOST - 1}}}{LINE}"}

    def lines(self, random: Random, kind: float | None = None) -> list[str]:
        """A reply by lines; `kind` is the probability of each to be kind."""
        chance = random.choice((0.2, 0.5, 0.8, 1.0)) if kind is None else kind
        return [
            f"{random.choice(WORDS)} {'dear' if random.random() < chance else 'fool'}"
            for _ in range(random.randint(self.least, MOST))
        ]

    def text(self, random: Random, kind: float | None = None) -> str:
        return "\n".join(self.lines(random, kind))

    def outcome(self, random: Random) -> Row | None:
        one, two = self.lines(random), self.lines(random)
        if share(one) == share(two):
            return None
        best, worst = (one, two) if share(one) > share(two) else (two, one)
        return {"prompt": asked(random), "chosen": "\n".join(best), "rejected": "\n".join(worst)}

    def verifier(self, random: Random) -> Row:
        said = self.lines(random, random.choice((1.0, 0.6)))
        return {"prompt": asked(random), "response": "\n".join(said), "label": int(share(said) == 1.0)}

    token = verifier

    def process(self, random: Random) -> Row:
        said = self.lines(random)
        return {"prompt": asked(random), "completions": said, "labels": [float("dear" in line) for line in said]}

    def salmon(self, random: Random) -> Row | None:
        about, negated = random.choice(list(PRINCIPLES)), random.random() < 0.5
        pair = [self.lines(random), self.lines(random)]
        values = [share(said) if about == "kind" else -float(len(said)) for said in pair]
        if values[0] == values[1]:
            return None
        best, worst = pair if (values[0] > values[1]) != negated else pair[::-1]
        texts = {"chosen": "\n".join(best), "rejected": "\n".join(worst)}
        return {"prompt": asked(random)[0]["content"], **texts, "principles": [PRINCIPLES[about][negated]]}


def rows(maker: Callable[[Random], Row | None], count: int, seed: int) -> Iterator[Row]:
    random = Random(seed)
    while count:
        if (row := maker(random)) is not None:
            yield row
            count -= 1


def written(path: Path, made: Iterator[Row] | Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def pairs_of_heron(toy: Toy, work: Path, split: str, count: int, seed: int) -> Path:
    """Preference rows by HERON's tree."""
    from llmrl.datagen.heron import write
    from llmrl.scoring.ranked_factors import Factor

    random = Random(seed)
    answers = written(
        work / f"heron-answers-{split}.jsonl",
        [
            {
                "id": f"{split}/{n}",
                "prompt": asked(random),
                "responses": ["\n".join(toy.lines(random)) for _ in range(4)],
            }
            for n in range(count)
        ],
    )
    factors = [Factor(name="kind", of={"name": "regex", **toy.rule}), Factor(name="length", sign=-1, threshold=5.0)]
    out = work / f"heron-{split}.jsonl"
    print("\n".join(write(answers, out, factors).lines()))
    return out


def train(toy: Toy, kind: str, start: Path, work: Path, seed: int, steps: int) -> tuple[Path, dict[str, Any]]:
    """The folder of a reward model, and its report on rows that it has not seen."""
    from llmrl.evaluation.reward_model import run
    from llmrl.plugins import construct
    from llmrl.reward_models.recipe import RewardRecipe
    from llmrl.train.reward_model.run import train as learn

    if kind == "heron":
        files = [pairs_of_heron(toy, work, split, n, seed + n) for split, n in (("train", 800), ("test", 150))]
    else:
        files = [
            written(work / f"{kind}-{split}.jsonl", rows(getattr(toy, kind), n, seed + n))
            for split, n in (("train", 4000), ("test", 600))
        ]
    values: dict[str, Any] = {
        "kind": kind if kind in FIGURES else "outcome",
        "model": {"model_name_or_path": str(start)},
        "data": {"train": str(files[0]), "test": str(files[1])},
        "input": {"max_length": 96} | ({"template": TEMPLATE} if kind == "salmon" else {}),
        "train": {"max_steps": steps, "learning_rate": 1e-3, "per_device_train_batch_size": 32, "warmup_steps": 20,
                  "seed": seed, "logging_steps": 100, "output_dir": str(work), "run_name": f"model-{kind}"},
    }  # fmt: skip
    folder = learn(construct(RewardRecipe, values, kind))
    return folder, run(str(folder), str(files[1])).as_dict()


def paid_by(kind: str, folder: Path, work: Path, length: float) -> Row:
    """The reward, as a part of a mix."""
    if kind == "process":
        return {"process_model": {"weight": 1.0, "path": str(folder), "least_words": 1}}
    if kind == "salmon":
        text, opposite = PRINCIPLES["kind"]
        path = written(work / "principles.jsonl", [{"name": "Kind", "text": text, "opposite": opposite}])
        options = {"principles": str(path), "k": 1, "guards": False, "length": length}
        return {"salmon": {"weight": 1.0, "path": str(folder), **options}}
    return {"reward_model": {"weight": 1.0, "path": str(folder)}}


def learn_by(kind: str, parts: Row, start: Path, work: Path, seed: int, steps: int, beta: float) -> list[Row]:
    """The metrics of a run."""
    from llmrl.run_folder import reader

    prompts = written(work / "prompts.jsonl", [{"prompt": asked(Random(n))} for n in range(200)])
    recipe = {
        "model": {"policy": str(start)},
        "data": {"name": "jsonl", "path": str(prompts)},
        "reward": {"name": "mix", "parts": parts},
        "algorithm": {"name": "grpo", "loss_type": "grpo", "beta": beta},
        "engine": {"name": "vllm"},
        "rollout": {"num_generations": 8, "prompts_per_step": 16, "max_prompt_length": 32, "max_completion_length": 48},
        "train": {"max_steps": steps, "learning_rate": 3e-4, "save_steps": 0, "report_to": "none", "seed": seed,
                  "output_dir": str(work), "run_name": f"run-{kind}"},
    }  # fmt: skip
    path = work / f"{kind}.json"
    path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    subprocess.run(["rm", "-rf", str(work / f"run-{kind}")], check=True, timeout=60)
    log = work / f"run-{kind}.log"
    with log.open("w") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "llmrl", "train", str(path), "--quiet"]
        done = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=LIMIT_S, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{kind}: the run failed; the end of {log}:\n{log.read_text()[-1500:]}")
    return [dict(record.metrics) for record in reader.steps(work / f"run-{kind}")]


def start_model(toy: Toy, work: Path, seed: int, steps: int) -> Path:
    """A policy that writes any reply, made once."""
    from llmrl import tiny
    from llmrl.train.sft import sft

    made = work / "start" / "sft"
    if not (made / "config.json").exists():
        base = tiny.make(work / "start" / "random", hidden=64, layers=2, seed=seed)
        random = Random(seed)
        replies = [
            {
                "prompt": asked(random),
                "completion": [{"role": "assistant", "content": "\n".join(toy.lines(random, 0.5))}],
            }
            for _ in range(2000)
        ]
        sft(base, replies, made, max_steps=steps, learning_rate=2e-3, batch_size=32, warmup_steps=20, seed=seed)
    return made


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of one or several seeds: each figure; of several, the mean with the least and the most."""
    lines = ["| reward | measure, held out | | reward, first to last steps | right by the rule | |", "|" + "---|" * 6]
    for kind in runs[0]:
        seen = [run[kind] for run in runs]
        held = [one["held_out"]["value"] if isinstance(one["held_out"], dict) else one["held_out"] for one in seen]
        low = [one["held_out"]["low"] for one in seen if isinstance(one["held_out"], dict)]
        (paid, _), (truth, ends) = (
            ([fmean(one[name][k] for one in seen) for k in (0, 1)], [one[name][1] for one in seen])
            for name in ("reward", "truth")
        )
        better = sum(one["truth"][1] > one["truth"][0] for one in seen)
        least = f", lowest end of an interval {min(low):.3f}" if low else ""
        what = f"{seen[0]['measure']} | {spread(held, 3)}{least}"
        lines.append(
            f"| {kind} | {what} | {paid[0]:.2f} to {paid[1]:.2f} | {truth[0]:.2f} to {spread(ends)} "
            f"| {better} of {len(seen)} |"
        )
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=int, default=1, help="lines of the replies that are learned from")
    parser.add_argument("--model-steps", type=int, default=250, help="of each reward model")
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    parser.add_argument("--start-steps", type=int, default=800, help="of the start, where it is not there yet")
    parser.add_argument("--beta", type=float, default=0.1, help="of each run")
    parser.add_argument("--length", type=float, default=25.6, help="SALMON's bonus for length")
    parser.add_argument("--work", type=Path, default=Path("runs/learned_rewards"))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--table", type=Path, nargs="+", help="files of --json to make a table of; nothing else is run")
    options = parser.parse_args(arguments)
    if options.table:
        print(table([json.loads(path.read_text(encoding="utf-8")) for path in options.table]))
        return
    sys.path.insert(0, str(ROOT))
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    toy = Toy(options.least)
    start, figures = start_model(toy, work, options.seed, options.start_steps), {}
    for kind in options.kinds:
        began = time.perf_counter()
        folder, report = train(toy, kind, start, work, options.seed, options.model_steps)
        held_out = report[FIGURES.get(kind, "pairwise_accuracy")]
        parts = paid_by(kind, folder, work, options.length) | {"regex": {"weight": 0.0, **toy.rule}}
        steps = learn_by(kind, parts, start, work, options.seed, options.steps, options.beta)
        truth = [step["rewards/regex/mean"] for step in steps]
        figures[kind] = {
            "measure": FIGURES.get(kind, "pairwise_accuracy"),
            "held_out": held_out,
            "reward": [fmean(s["reward"] for s in steps[:FIRST]), fmean(s["reward"] for s in steps[-LAST:])],
            "truth": [fmean(truth[:FIRST]), fmean(truth[-LAST:])],
            "truth_by_step": truth,
            "seconds": time.perf_counter() - began,
        }
        print(f"{kind}: {json.dumps({k: v for k, v in figures[kind].items() if k != 'truth_by_step'})}", flush=True)
    print(table([figures]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
