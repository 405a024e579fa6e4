"""Evaluate a reward model on rows that it has not seen: the command `llmrl eval-rm`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from llmrl.errors import CheckpointError
from llmrl.evaluation.statistics import Estimate, estimate
from llmrl.ops.judgement import bins, brier, calibration_error, roc_auc, spearman
from llmrl.ops.scores import best_of_n_accuracy, first_below
from llmrl.reward_models.model import RewardModel, Scored, sigmoid
from llmrl.reward_models.recipe import COLUMNS
from llmrl.reward_models.rows import LabelledRow, PreferencePair
from llmrl.reward_models.stepwise import IGNORED
from llmrl.reward_models.training_rows import read

Number = float | Estimate | None


@dataclass
class RewardModelReport:
    """Numbers by name, and predicted probabilities with their outcomes for the plot."""

    numbers: dict[str, Number] = field(default_factory=dict)
    chances: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        return {name: one.as_dict() if isinstance(one, Estimate) else one for name, one in self.numbers.items()}


def run(
    folder: str, data: str, columns: str | None = None, out: Path | None = None, limit: int | None = None
) -> RewardModelReport:
    """Score a file's rows, print the report, and write `report.json` and `calibration.png` to `out`.

    Args:
        folder: of the reward model.
        data: .jsonl, .json or .parquet, of rows that the model has not learned from.
        columns: the layout of the rows; by default the one that the model's kind learns from.
        out: None: below the model's own folder, `eval`.
        limit: the first rows only.
    Raises:
        CheckpointError: the model does not load, or cannot score such rows.
        DataError: the rows cannot be read, or there are none.
    """
    from llmrl.reward_models.model import load

    model = load(folder)
    source = read(columns or COLUMNS[model.card.kind][0], data, limit)
    made = report(model, source.kept)
    made.numbers |= {f"left out: {reason}": float(count) for reason, count in source.rejected.items()}
    made.numbers["truncated_frac"] = model.truncated / max(model.scored, 1)
    place = out or Path(folder) / "eval"
    place.mkdir(parents=True, exist_ok=True)
    (place / "report.json").write_text(json.dumps(made.as_dict(), indent=2) + "\n", encoding="utf-8")
    _draw(made, place / "calibration.png")
    _show(made, place)
    return made


def report(model: RewardModel, rows: Sequence[PreferencePair | LabelledRow]) -> RewardModelReport:
    """Report on a model's scores of rows of one kind.

    Raises:
        CheckpointError: steps for a model that scores none, or whole answers for one that scores steps.
    """
    if isinstance(rows[0], PreferencePair):
        return _pairs(model, [row for row in rows if isinstance(row, PreferencePair)])
    labelled = [row for row in rows if isinstance(row, LabelledRow)]
    return _answers(model, labelled) if labelled[0].answer.steps is None else _steps(model, labelled)


def _pairs(model: RewardModel, rows: Sequence[PreferencePair]) -> RewardModelReport:
    """Report on pairs: how often the better answer has the higher score; a draw counts as an error."""
    scored = model.sequences([answer for row in rows for answer in (row.chosen, row.rejected)])
    chosen, rejected = _logits(scored[::2]), _logits(scored[1::2])
    gaps = [a - b for a, b in zip(chosen, rejected, strict=True)]
    lengths = [len(row.chosen.response) - len(row.rejected.response) for row in rows]
    wins = [float(gap > 0) for gap in gaps]
    made = RewardModelReport(chances=[sigmoid(abs(gap)) for gap in gaps], came=wins)
    made.numbers = {
        "pairs": float(len(rows)),
        "pairwise_accuracy": _by_problem(rows, wins),
        "ties_frac": fmean(gap == 0 for gap in gaps),
        "margin_mean": fmean(gaps),
        "calibration_error": calibration_error(made.chances, wins),
        "brier": brier(made.chances, wins),
        "spearman_length": spearman(chosen + rejected, [float(one.tokens) for one in (*scored[::2], *scored[1::2])]),
    }
    for name, held in _quartiles(lengths).items():
        made.numbers[f"pairwise_accuracy/{name}"] = fmean(wins[i] for i in held)
    return made


def _answers(model: RewardModel, rows: Sequence[LabelledRow]) -> RewardModelReport:
    """Report on right and wrong answers: order, over all and within a problem, probabilities, and the best of n."""
    scored = model.sequences([row.answer for row in rows])
    logits, labels = _logits(scored), [row.labels[0] for row in rows]
    right = [label >= 0.5 for label in labels]
    made = RewardModelReport()
    made.numbers = {"answers": float(len(rows)), "right_frac": fmean(right), "auc": roc_auc(logits, right)}
    within = [roc_auc([logits[i] for i in held], [right[i] for i in held]) for held in _problems(rows).values()]
    known = [auc for auc in within if auc is not None]
    made.numbers["auc_within_problem"] = estimate(known) if known else None
    if model.card.link == "sigmoid":
        made.chances, made.came = [sigmoid(logit) for logit in logits], labels
        hits = [float((logit > 0) == side) for logit, side in zip(logits, right, strict=True)]
        made.numbers |= {"accuracy": _by_problem(rows, hits)}
        made.numbers |= {
            "brier": brier(made.chances, labels),
            "calibration_error": calibration_error(made.chances, labels),
        }
    made.numbers |= _best_of(rows, logits, right)
    made.numbers["spearman_length"] = spearman(logits, [float(answer.tokens) for answer in scored])
    return made


def _steps(model: RewardModel, rows: Sequence[LabelledRow]) -> RewardModelReport:
    """Report on labelled steps: each by itself, and how often the first wrong one is found."""
    scored = model.steps([row.answer for row in rows])
    kept = [(row, answer) for row, answer in zip(rows, scored, strict=True) if None not in answer.logits]
    pairs = [pair for row, answer in kept for pair in _known(answer, row)]
    made = RewardModelReport(chances=[chance for chance, _ in pairs], came=[label for _, label in pairs])
    right = [label >= 0.5 for label in made.came]
    predicted = [[sigmoid(logit) for logit in answer.logits if logit is not None] for _, answer in kept]
    truth = [first_below([1.0 if label == IGNORED else label for label in row.labels]) for row, _ in kept]
    hits = [float(first_below(chances) == wrong) for chances, wrong in zip(predicted, truth, strict=True)]
    flawed = [hit for hit, wrong in zip(hits, truth, strict=True) if wrong is not None]
    sound = [hit for hit, wrong in zip(hits, truth, strict=True) if wrong is None]
    made.numbers = {
        "answers": float(len(kept)),
        "not_scored": float(len(rows) - len(kept)),
        "steps": float(len(pairs)),
        "right_frac": fmean(right),
        "step_accuracy": _by_problem([row for row, _ in kept], [_hit_rate(answer, row) for row, answer in kept]),
        "step_recall/right": _share([chance > 0.5 for chance, side in zip(made.chances, right, strict=True) if side]),
        "step_recall/wrong": _share(
            [chance <= 0.5 for chance, side in zip(made.chances, right, strict=True) if not side]
        ),
        "step_auc": roc_auc(made.chances, right),
        "brier": brier(made.chances, made.came),
        "calibration_error": calibration_error(made.chances, made.came),
        "first_error_accuracy": _by_problem([row for row, _ in kept], hits),
        "first_error_accuracy/flawed": fmean(flawed) if flawed else None,
        "first_error_accuracy/sound": fmean(sound) if sound else None,
        "weakest_is_last_frac": fmean(chances.index(min(chances)) == len(chances) - 1 for chances in predicted),
        "spearman_length": spearman(
            [min(chances) for chances in predicted], [float(answer.tokens) for _, answer in kept]
        ),
    }
    if flawed and sound:
        made.numbers["first_error_f1"] = _harmonic(fmean(flawed), fmean(sound))
    return made


def _share(hits: Sequence[bool]) -> float | None:
    return fmean(hits) if hits else None


def _hit_rate(scored: Scored, row: LabelledRow) -> float:
    """Share of a row's labelled steps whose probability is on the right side of one half."""
    return fmean((chance > 0.5) == (label >= 0.5) for chance, label in _known(scored, row))


def _known(scored: Scored, row: LabelledRow) -> list[tuple[float, float]]:
    """Probability and label of each step that has a label."""
    both = zip(scored.logits, row.labels, strict=True)
    return [(sigmoid(logit), label) for logit, label in both if logit is not None and label != IGNORED]


def _best_of(rows: Sequence[LabelledRow], logits: Sequence[float], right: Sequence[bool]) -> dict[str, Number]:
    """Accuracy of the best of n by score, for n = 1, 2, 4 ..., over the problems that have as many answers."""
    accuracies: dict[str, Number] = {}
    groups = [held for held in _problems(rows).values() if len(held) > 1]
    n = 1
    while held := [group for group in groups if len(group) >= n]:
        values = [best_of_n_accuracy([logits[i] for i in g], [right[i] for i in g], n) for g in held]
        accuracies[f"best_of_{n}"] = estimate(values)
        n *= 2
    return accuracies


def _logits(scored: Sequence[Scored]) -> list[float]:
    """Extract the single logit of each answer.

    Raises:
        CheckpointError: an answer has none.
    """
    logits = [answer.logits[0] for answer in scored if answer.logits[0] is not None]
    if len(logits) < len(scored):
        raise CheckpointError("an answer was cut off altogether; the model's max_length is too small for these rows")
    return logits


def _problems(rows: Sequence[PreferencePair | LabelledRow]) -> dict[str, list[int]]:
    by_problem: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_problem.setdefault(row.problem, []).append(index)
    return by_problem


def _by_problem(rows: Sequence[PreferencePair | LabelledRow], values: Sequence[float]) -> Estimate:
    """Mean over problems, with an interval over problems, because answers to one problem are not independent."""
    return estimate([fmean(values[i] for i in held) for held in _problems(rows).values()])


def _quartiles(lengths: Sequence[int]) -> dict[str, list[int]]:
    """Sort rows by how much longer the better answer is, in four parts of similar size."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    parts = [order[len(order) * q // 4 : len(order) * (q + 1) // 4] for q in range(4)]
    return {f"length_quartile_{q + 1}": part for q, part in enumerate(parts) if part}


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _draw(made: RewardModelReport, path: Path) -> None:
    """Draw the predicted probability against the share of right answers; nothing for a model without probabilities."""
    from matplotlib.figure import Figure

    if not made.chances:
        return
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    panel = figure.subplots()
    points = bins(made.chances, made.came)
    panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    panel.plot([point.said for point in points], [point.came for point in points], "o-")
    for point in points:
        place = (point.said, point.came)
        panel.annotate(str(point.count), place, textcoords="offset points", xytext=(4, -10), fontsize=7)
    panel.set(title="Calibration", xlabel="chance that the model says", ylabel="share that is right",
              xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _show(made: RewardModelReport, place: Path) -> None:
    for name, number in made.numbers.items():
        if isinstance(number, Estimate):
            print(f"{name:32} {number.value:.4f}  ({number.low:.4f} to {number.high:.4f})")
        else:
            print(f"{name:32} {'none' if number is None else f'{number:.4f}'.rstrip('0').rstrip('.')}")
    print(f"report: {place / 'report.json'}")
