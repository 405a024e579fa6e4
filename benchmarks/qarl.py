"""Measure robustness against texts around a problem: QARL, both forms, against plain training of equal length.

    python benchmarks/qarl.py --seeds 5 --out docs/results/qarl.json

The start of `benchmarks/learning.py` has seen 50 batches of sums with texts around them, so that it heeds some of them.
Then it is trained by GRPO for 40 steps of 256 answers: on plain sums, on all texts alike, on texts that the curriculum
`qarl` chooses, or in four rounds against a writer, which learns for five steps against the solver of the round before
and then speaks at an ever lower temperature. Judged greedily on held-out sums, with these texts and with others.
A run that is there already is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import over_seeds
from over_seeds import cell

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

STEPS, ROUNDS, WRITER_STEPS = 40, 4, 5
TEMPERATURES = [2.0 * 0.7**number for number in range(ROUNDS)]  # of the writer, round by round
TEXTS = {
    "none": "{prompt}",
    "before": "{number} {prompt}",
    "line": "{number}\n{prompt}",
    "after": "{prompt} {number}",
    "claim": "{prompt}{number}?",
    "equation": "{number}={prompt}",
}
OTHERS = {"both": "{number} {prompt} {number}", "hash": "#{number} {prompt}", "sum": "{number}+{number} {prompt}"}
SUMS: Mapping[str, Any] = {"name": "arithmetic", "low": 10}
PERTURBED = {"name": "perturbed", "of": SUMS, "templates": TEXTS}
GAME = {"name": "perturbation", "reward": "numeric", "request": "{prompt}", "template": "{text} {prompt}"}
GAME |= {"allowed": "[0-9 =?]{1,7}"}
HELDOUT = {**SUMS, "split": "heldout", "count": 200}
ATTACKS = Benchmark(
    data={"name": "perturbed", "of": HELDOUT, "templates": TEXTS | OTHERS},
    reward={"name": "numeric"},
    sampling=Sampling(temperature=0.0, max_tokens=8),
    by=("perturbation",),
    about="200 held-out sums of two numbers of two digits, with and without texts around them",
)


def run(model: Path, seed: int, work: Path, name: str, steps: int = STEPS, **sections: Any) -> Path:
    """The model that GRPO on sums makes of another, 16 problems a step with 8 answers each; kept if it is there."""
    from self_play import trained

    rollout = {"num_generations": 8, "prompts_per_step": 32, "max_prompt_length": 64, "max_completion_length": 8}
    options = {
        "data": SUMS,
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo", "loss_type": "grpo"},
        "engine": {"name": "hf"},
        "train": {"learning_rate": 1e-4, "lr_scheduler_type": "constant"},
        **sections,
        "rollout": {**rollout, **sections.get("rollout", {})},
    }
    final = work / name / "final"
    if not (final / "config.json").exists():
        shutil.rmtree(work / name, ignore_errors=True)
        trained(options, model, seed, work, name, steps)
    return final


def game(learns: str, opponents: Mapping[str, Any], **rollout: Any) -> dict[str, Any]:
    """Sections of a run in which one agent learns, and the other is a model that stands still."""
    limits = {"max_turns": 2, "max_reply_length": 32, "overlong_turns": "answer", "opponents": opponents, **rollout}
    return {"env": {**GAME, "player": learns}, "reward": {"name": "environment"}, "rollout": limits}


def rounds(start: Path, seed: int, work: Path) -> tuple[Path, Path]:
    """The solver and the writer after all rounds: they learn in turn, each against the newest of the other."""
    writer = solver = start
    for number, temperature in enumerate(TEMPERATURES, start=1):
        against = game("writer", {"solver": {"model": str(solver)}})
        writer = run(writer, seed, work, f"writer-{number}", WRITER_STEPS, **against)
        against = game("solver", {"writer": {"model": str(writer), "temperature": temperature}})
        solver = run(solver, seed, work, f"solver-{number}", STEPS // ROUNDS, **against)
    return solver, writer


def models(work: Path, seed: int) -> tuple[dict[str, Path], Path]:
    """Every trained model of a seed by its name in the table, and the last writer."""
    from learning import start_model

    from llmrl.pipeline.kinds import SftRecipe
    from llmrl.train.sft import sft

    start, folder = start_model(work, seed), work / f"seed-{seed}"
    heeding = folder / "start" / "final"
    if not (heeding / "config.json").exists():
        rows = SftRecipe(model=str(start), data=PERTURBED, max_steps=50).rows()
        sft(start, rows, heeding, max_steps=50, learning_rate=1e-3, batch_size=64, warmup_steps=10, seed=seed)
    curriculum = {"name": "online", "curriculum": {"name": "qarl"}}
    made = {"nothing more": heeding, "plain sums": run(heeding, seed, folder, "plain")}
    made["all texts alike"] = run(heeding, seed, folder, "alike", data=PERTURBED)
    made["texts by `qarl`"] = run(heeding, seed, folder, "qarl", data=PERTURBED, source=curriculum)
    made["a writer's texts"], writer = rounds(heeding, seed, folder)
    return made, writer


def measure(work: Path, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy of each model of a seed under each text, greedy, and against the last writer, sampled."""
    from llmrl.evaluation.run import EvalSetup, Plan
    from llmrl.evaluation.run import run as evaluate
    from llmrl.run_folder import reader

    made, writer = models(work, seed)
    against = game("solver", {"writer": {"model": str(writer)}}, num_generations=2, prompts_per_step=200)
    found = {}
    for name, model in made.items():
        folder = model.parents[1]
        out = folder / f"{model.parent.name}-eval"
        (result,) = evaluate(str(model), ["qarl:ATTACKS"], out, Plan(), EvalSetup(engine="hf"), quiet=True).values()
        found[name] = {text: part["avg@1"]["value"] for text, part in result["by"]["perturbation"].items()}
        met = {**against, "data": HELDOUT, "algorithm": {"name": "llmrl.pipeline.kinds:Collect"}}
        played = run(model, seed, folder, f"{model.parent.name}-met", 1, **met).parent
        episodes = [record.trajectory for record in reader.episodes(played)]
        found[name]["writer"] = fmean(float(episode.verdict == "correct") for episode in episodes)
        found[name]["valid"] = fmean(episode.metrics["valid"] for episode in episodes)
    return found


def table(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """A line for each model: means over seeds with their 95 % intervals."""
    columns = {
        "no text": lambda score: score["none"],
        "texts trained on": lambda score: fmean(score[text] for text in TEXTS if text != "none"),
        "worst of them": lambda score: min(score[text] for text in TEXTS),
        "other texts": lambda score: fmean(score[text] for text in OTHERS),
        "the last writer": lambda score: score["writer"],
    }
    lines = [f"| trained on | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in rows[0]:
        cells = [cell([column(row[name]) for row in rows]) for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    over_seeds.run(__doc__, "qarl", measure, table)
