"""Labels of reasoning steps: TRL's and PRM800K's rows, rows that name the first wrong step, and Monte-Carlo counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from llmrl.datafiles.rows import Row, file_rows
from llmrl.errors import DataError
from llmrl.reward_models.preferences import conversation, problem, variables
from llmrl.reward_models.rows import AnswerRow, LabelledRow, Rows

IGNORED = -100.0
Neutral = Literal["positive", "ignore", "negative"]
NEUTRAL: Mapping[str, float] = {"positive": 1.0, "ignore": IGNORED, "negative": 0.0}
FINISHED = ("found_error", "solution")
"""Of PRM800K's reasons to stop labelling: those after which the labels can be used."""


@dataclass(frozen=True, slots=True)
class StepwiseSolution:
    """A labelled solution of PRM800K."""

    steps: list[str]
    labels: list[float]  # of each step; nothing follows the first 0
    alternatives: list[tuple[list[str], str, float]]  # the steps before, another step in its place, and its label


def stepwise(path: str | Path, limit: int | None = None) -> Rows[LabelledRow]:
    """Read rows of TRL's stepwise columns: `prompt`, `completions` (or `steps`) and `labels`, one of each step.

    A label is true or false, or from 0 to 1; -100 is none.

    Raises:
        DataError: a row that lacks a column, or has more steps than labels, or another kind of label.
    """
    found: Rows[LabelledRow] = Rows([])
    for row in islice(file_rows(Path(path)), limit):
        prompt = conversation(row, "prompt")
        steps = _steps(row, "completions" if "completions" in row.values else "steps")
        labels = row.values.get("labels")
        if not isinstance(labels, list) or len(labels) != len(steps) or not all(map(_is_label, labels)):
            raise DataError(
                f"{row.where}: column 'labels' holds {labels!r:.60}; expected {len(steps)} of them, one for each step, "
                "true, false, 0 to 1, or -100"
            )
        rest = {name: value for name, value in variables(row).items() if name not in ("completions", "steps", "labels")}
        answer = AnswerRow(prompt=prompt, steps=steps, variables=rest)
        _add(found, LabelledRow(answer=answer, labels=[float(x) for x in labels], problem=problem(row, prompt)))
    return found


def prm800k(path: str | Path, neutral_as: Neutral = "positive", limit: int | None = None) -> Rows[LabelledRow]:
    """Read rows of PRM800K: each solution up to its first wrong step, and each other rated step behind its prefix.

    Rows of quality control or screening are left out, and so are solutions whose labelling was not finished. Never
    train on the 500 problems that are its test.

    Raises:
        DataError: a row is not one of PRM800K.
    Source: Lightman et al. 2023 (arXiv 2305.20050).
    """
    found: Rows[LabelledRow] = Rows([])
    for row in islice(file_rows(Path(path)), limit):
        question, label = row.values.get("question"), row.values.get("label")
        if not isinstance(question, Mapping) or not isinstance(label, Mapping):
            raise DataError(f"{row.where}: no `question` and `label`; expected a row of PRM800K")
        if row.values.get("is_quality_control_question") or row.values.get("is_initial_screening_question"):
            found.rejected["quality control or screening"] += 1
            continue
        if label.get("finish_reason") not in FINISHED:
            found.rejected[f"finished by {label.get('finish_reason')}"] += 1
            continue
        prompt = str(question["problem"])
        made = trajectory(label["steps"], neutral_as, row.where)
        _add(found, _labelled(prompt, made.steps, made.labels))
        for before, text, rating in made.alternatives:
            _add(found, _labelled(prompt, [*before, text], [*[IGNORED] * len(before), rating]))
    return found


def trajectory(steps: Sequence[Mapping[str, Any]], neutral_as: Neutral, where: str = "") -> StepwiseSolution:
    """Read the solution that the labellers followed, with its labels, and the steps that they rated beside it.

    The text of a step is a person's, where no completion was chosen, else the chosen completion. A step
    without either ends the solution with its first completion that was rated. Nothing follows the first wrong step.

    Raises:
        DataError: a step without completions and without a text of a person's.
    """
    taken: list[str] = []
    labels: list[float] = []
    others: list[tuple[list[str], str, float]] = []
    for index, step in enumerate(steps):
        completions, chosen, human = step.get("completions") or [], step.get("chosen_completion"), _human(step)
        rated = [k for k, completion in enumerate(completions) if completion.get("rating") in (-1, 0, 1)]
        ends = chosen is None and human is None
        place = chosen if chosen is not None else rated[0] if ends and rated else None
        if place is None and human is None:
            raise DataError(f"{where}: step {index} has neither a chosen, a rated nor a written completion")
        text = human if place is None else str(completions[place]["text"])
        label = NEUTRAL["positive"] if place is None else _rating(completions[place], neutral_as)
        for k in rated:
            other = _rating(completions[k], neutral_as)
            if k != place and other != IGNORED:
                others.append((list(taken), str(completions[k]["text"]), other))
        taken.append(str(text))
        labels.append(label)
        if ends or (place is not None and completions[place].get("rating") == -1):
            break
    return StepwiseSolution(taken, labels, others)


def first_error(path: str | Path, limit: int | None = None) -> Rows[LabelledRow]:
    """Read rows that name the first wrong step: `first_error_step_0based` or `first_error_step_1based`; null is none.

    Steps before it are 1, it is 0, and those after it have no label.

    Raises:
        DataError: a row that lacks a column, or names a step that it does not have.
    """
    found: Rows[LabelledRow] = Rows([])
    for row in islice(file_rows(Path(path)), limit):
        steps = _steps(row, "steps")
        prompt = conversation(row, "question" if "question" in row.values else "prompt")
        answer, labels = AnswerRow(prompt=prompt, steps=steps), labels_up_to(error(row), len(steps))
        _add(found, LabelledRow(answer=answer, labels=labels, problem=problem(row, prompt)))
    return found


def error(row: Row) -> int | None:
    """Index of the first wrong step of a row, from 0; None where there is none."""
    for column, first in (("first_error_step_0based", 0), ("first_error_step_1based", 1)):
        if column in row.values:
            step = row.values[column]
            if step is None:
                return None
            if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step - first < len(row.values["steps"]):
                raise DataError(
                    f"{row.where}: column {column!r} holds {step!r}; expected one of {len(row.values['steps'])} steps"
                )
            return step - first
    raise DataError(f"{row.where}: no column 'first_error_step_0based' or 'first_error_step_1based'")


def labels_up_to(wrong: int | None, steps: int) -> list[float]:
    """Labels by the first wrong step: 1 before it, 0 for it, none behind it."""
    if wrong is None:
        return [1.0] * steps
    return [*[1.0] * wrong, 0.0, *[IGNORED] * (steps - wrong - 1)]


def monte_carlo(
    counts: Sequence[int],
    rollouts: int,
    final_correct: float,
    *,
    soft: bool = False,
    threshold: float = 0.0,
    stop_at_first_error: bool = False,
) -> list[float]:
    """Labels of steps by the number of completions behind each that reached the right answer.

    Args:
        counts: of each step's prefix; the last step's is ignored, for it has an outcome of its own.
        rollouts: completions per prefix.
        final_correct: whether the answer itself is right.
        soft: the share that was right, else whether it is above `threshold`.
        stop_at_first_error: no labels behind the first hard 0.
    Raises:
        ValueError: counts below 0 or above `rollouts`, or none.
    Source: Math-Shepherd (arXiv 2312.08935), eq. 3 and 4.
    """
    if not counts or rollouts < 1 or not all(0 <= count <= rollouts for count in counts):
        raise ValueError(f"counts {list(counts)[:8]} of {rollouts}: expected at least one, each from 0 to {rollouts}")
    shares = [*(count / rollouts for count in counts[:-1]), float(final_correct)]
    hard = [float(share > threshold) for share in shares]
    labels = shares if soft else hard
    if stop_at_first_error and 0.0 in hard:
        stop = hard.index(0.0) + 1
        labels = [*labels[:stop], *[IGNORED] * (len(labels) - stop)]
    return labels


def _add(rows: Rows[LabelledRow], row: LabelledRow) -> None:
    """Add a row, if it can be learned from."""
    steps = row.answer.steps or ()
    if not steps or not all(step.strip() for step in steps):
        rows.rejected["empty step"] += 1
    elif all(label == IGNORED for label in row.labels):
        rows.rejected["no label"] += 1
    else:
        rows.kept.append(row)


def _labelled(prompt: str, steps: list[str], labels: list[float]) -> LabelledRow:
    return LabelledRow(answer=AnswerRow(prompt=prompt, steps=steps), labels=labels, problem=prompt)


def _steps(row: Row, column: str) -> list[str]:
    steps = row.values.get(column)
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise DataError(f"{row.where}: column {column!r} holds {steps!r:.60}; expected a list of texts")
    return steps


def _is_label(label: Any) -> bool:
    return isinstance(label, bool | int | float) and (label == IGNORED or 0 <= label <= 1)


def _rating(completion: Mapping[str, Any], neutral_as: Neutral) -> float:
    rating = completion.get("rating")
    return NEUTRAL[neutral_as] if rating == 0 else float(rating == 1) if rating in (-1, 1) else IGNORED


def _human(step: Mapping[str, Any]) -> str | None:
    """Text that a person wrote: a string, or an object with one."""
    written = step.get("human_completion")
    if isinstance(written, Mapping):
        written = written.get("text")
    return written if isinstance(written, str) and written.strip() else None
