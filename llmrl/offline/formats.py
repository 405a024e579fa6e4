"""Formats of stored answers: how a row of each is read. The first row tells which it is, where nobody says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline import pairs
from llmrl.offline.example import (
    ASSISTANT,
    DEMONSTRATION,
    Example,
    answered,
    conversation,
    dialogue,
    finite,
    judged,
    numbers_of,
    reward_of,
)
from llmrl.plugins import did_you_mean
from llmrl.reward_models.stepwise import FINISHED, IGNORED, trajectory
from llmrl.types import Score

PROMPTS = ("prompt", "question", "problem", "instruction", "input")
ANSWERS = ("completion", "response", "output", "answer", "solution")
REWARDS = ("reward", "score", "is_correct", "correct")
PROGRAM_REWARDS = {"all_pass": 1.0, "test_failure": -0.3, "runtime_error": -0.6, "compile_error": -1.0}
ROLLOUTS = "rollouts"
"""The format of a run's own `rollouts.jsonl`, whose rows are episodes with their tokens."""
TREE = "tree"
"""The format of a search's trees, a row for each node with its tokens; a tree's rows stand together."""


def completion(row: Row) -> list[Example]:
    """Read a prompt, its answer, and its reward where it has one: the spec's `scored`, TRL's, OpenRLHF's."""
    reward = reward_of(row, *REWARDS)
    right = row.values.get("is_correct", row.values.get("correct"))
    score = DEMONSTRATION if reward is None else judged(reward, right if isinstance(right, bool) else None)
    prompt, answer = _column(row, PROMPTS), _column(row, ANSWERS)
    numbers = numbers_of(row, *PROMPTS, *ANSWERS, *REWARDS)
    return [answered(row.values[prompt], row.values[answer], row, score=score, numbers=numbers)]


def messages(row: Row) -> list[Example]:
    """Read a conversation: every message of the assistant is an action, and its `reward` is its turn's."""
    said = conversation(row.values.get("messages"), "user", row)
    start = next((i for i, message in enumerate(said) if message["role"] == ASSISTANT), len(said))
    reward = reward_of(row, *REWARDS)
    if reward is None:
        reward = 0.0 if any("reward" in message for message in said) else 1.0
    return [dialogue(said, start, row, score=Score(reward), numbers=numbers_of(row, *REWARDS))]


def unpaired(row: Row) -> list[Example]:
    """Read an answer and whether it is good: TRL's unpaired preference, the spec's `outcome`, OpenRLHF's KTO."""
    label = row.values.get("label")
    if not isinstance(label, bool | int | float) or not 0 <= label <= 1:
        raise DataError(f"{row.where}: column 'label' holds {label!r:.60}; expected 0 to 1, true or false")
    good = label >= 0.5
    prompt, answer = _column(row, PROMPTS), _column(row, ANSWERS)
    facts = {"role": "chosen" if good else "rejected", "numbers": numbers_of(row, "label")}
    return [answered(row.values[prompt], row.values[answer], row, score=judged(float(label), good), **facts)]


def ranked(row: Row) -> list[Example]:
    """Read several answers to a prompt with their rewards, best first; they are a group."""
    responses, rewards = row.values.get("responses"), row.values.get("rewards")
    if not isinstance(responses, list) or not isinstance(rewards, list) or len(responses) != len(rewards):
        raise DataError(
            f"{row.where}: expected `responses` and as many `rewards`; found {responses!r:.40}, {rewards!r:.40}"
        )
    if not all(finite(r) is not None for r in rewards) or sorted(rewards, reverse=True) != rewards:
        raise DataError(f"{row.where}: `rewards` {rewards!r:.60}; expected numbers, the largest first")
    prompt = row.values[_column(row, PROMPTS)]
    return [
        answered(prompt, response, row, score=Score(float(reward)), numbers={"rank": float(rank)})
        for rank, (response, reward) in enumerate(zip(responses, rewards, strict=True))
    ]


def stepwise(row: Row) -> list[Example]:
    """Read an answer in steps with a label each: TRL's stepwise supervision. Its reward is that of its worst step."""
    steps = row.values.get("completions", row.values.get("steps"))
    labels = row.values.get("labels")
    if not isinstance(steps, list) or not isinstance(labels, list) or len(steps) != len(labels):
        raise DataError(f"{row.where}: expected `completions` (or `steps`) and as many `labels`")
    known = all(isinstance(x, bool) or finite(x) is not None for x in labels)
    if not all(isinstance(step, str) for step in steps) or not known:
        raise DataError(f"{row.where}: expected texts in `completions`, and numbers or true and false in `labels`")
    return [_in_steps(row.values[_column(row, PROMPTS)], steps, list(map(float, labels)), row)]


def prm800k(row: Row) -> list[Example]:
    """Read the solution that PRM800K's labellers followed, up to its first wrong step."""
    question, label = row.values.get("question"), row.values.get("label")
    if not isinstance(question, Mapping) or not isinstance(label, Mapping):
        raise DataError(f"{row.where}: no `question` and `label`; expected a row of PRM800K")
    if row.values.get("is_quality_control_question") or row.values.get("is_initial_screening_question"):
        raise LeftOutError("quality control or screening")
    if label.get("finish_reason") not in FINISHED:
        raise LeftOutError(f"finished by {label.get('finish_reason')}")
    made = trajectory(label["steps"], "positive", row.where)
    return [_in_steps(str(question["problem"]), made.steps, made.labels, row)]


def program(row: Row) -> list[Example]:
    """Read a program and what became of it: rewards 1, -0.3, -0.6 and -1 (B-Coder)."""
    outcome = row.values.get("outcome")
    if outcome not in PROGRAM_REWARDS:
        raise DataError(f"{row.where}: outcome {outcome!r:.40}; expected one of {', '.join(PROGRAM_REWARDS)}")
    numbers = {**numbers_of(row), "is_ground_truth": float(bool(row.values.get("is_ground_truth")))}
    score = judged(PROGRAM_REWARDS[outcome], outcome == "all_pass")
    return [answered(row.values["prompt"], row.values["program"], row, score=score, numbers=numbers)]


def verl(row: Row) -> list[Example]:
    """Read a row of verl: a dump of its rollouts (`input`, `output`, `score`), or `extra_info` with an answer."""
    extra = row.values.get("extra_info")
    if "output" not in row.values and isinstance(extra, Mapping) and "answer" in extra:
        return [answered(row.values.get("prompt") or extra.get("question"), extra["answer"], row)]
    return completion(row)


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A layout of columns."""

    read: Callable[[Row], list[Example]]
    columns: Sequence[str]  # that a row of it has, each one name or several with `|`

    def fits(self, row: Row) -> bool:
        """True if the row has all of its columns."""
        return all(any(name in row.values for name in column.split("|")) for column in self.columns)


PROMPT, ANSWER = "|".join(PROMPTS), "|".join(ANSWERS)
FORMATS: Mapping[str, RowFormat] = {
    "prm800k": RowFormat(prm800k, ("question", "label", "labeler")),
    "segment_pair": RowFormat(pairs.segments, ("seg1", "seg2", "label")),
    "step_pair": RowFormat(pairs.step_pair, ("prefix", "chosen", "rejected")),
    "preference": RowFormat(pairs.preference, ("chosen", "rejected")),
    "ranked": RowFormat(ranked, (PROMPT, "responses", "rewards")),
    "stepwise": RowFormat(stepwise, (PROMPT, "completions|steps", "labels")),
    "program": RowFormat(program, ("prompt", "program", "outcome")),
    "unpaired": RowFormat(unpaired, (PROMPT, ANSWER, "label")),
    "verl": RowFormat(verl, ("data_source", "extra_info")),
    "completion": RowFormat(completion, (PROMPT, ANSWER)),
    "messages": RowFormat(messages, ("messages",)),
}
"""Every format but `rollouts`; of those that fit a row, the first is meant."""
EPISODE = ("step", "problem", "group", "episode", "turns")
NODE = ("tree_id", "node_id", "parent_ids", "kind", "token_ids")


def format_of(row: Row) -> str:
    """Recognise the format of a row by its columns.

    Raises:
        DataError: none has these.
    """
    if all(name in row.values for name in EPISODE):
        return ROLLOUTS
    if all(name in row.values for name in NODE):
        return TREE
    for name, layout in FORMATS.items():
        if layout.fits(row):
            return name
    layouts = "; ".join(f"{name}: {', '.join(layout.columns)}" for name, layout in FORMATS.items())
    raise DataError(
        f"{row.where}: no known format has the columns {', '.join(row.values) or 'none'}; expected those of {ROLLOUTS} "
        f"(a run's rollouts.jsonl), of {TREE} (what `llmrl data search` writes) or of {layouts}"
    )


def reader(name: str) -> Callable[[Row], list[Example]]:
    """The function that reads a row of a format.

    Raises:
        DataError: no such format, or one whose rows are not read one by one.
    """
    if name == TREE:
        raise DataError("source.format tree: its rows are nodes, which only source offline reads, a tree at a time")
    if name not in FORMATS:
        known = ["auto", ROLLOUTS, TREE, *FORMATS]
        raise DataError(f"source.format {name!r}{did_you_mean(name, known)}; expected one of {', '.join(known)}")
    return FORMATS[name].read


def _in_steps(prompt: Any, steps: Sequence[str], labels: Sequence[float], row: Row) -> Example:
    """An answer whose steps stand on a line each, with the places where they end."""
    text, ends = "", []
    for step in steps:
        text += ("\n" if text else "") + step
        ends.append(len(text))
    given = [label for label in labels if label != IGNORED]
    worst = min(given, default=0.0)
    score = Score(worst, "correct" if worst >= 0.5 else "wrong", steps=labels, step_ends=ends)
    return answered(prompt, text, row, score=score, numbers=numbers_of(row))


def _column(row: Row, names: Sequence[str]) -> str:
    """The first of the columns that the row has."""
    found = next((name for name in names if row.values.get(name) is not None), None)
    if found is None:
        raise DataError(f"{row.where}: none of the columns {', '.join(names)}; found {', '.join(row.values) or 'none'}")
    return found
