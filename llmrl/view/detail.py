"""An episode as a page shows it: messages, turns, and for each token its text and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmrl.run_folder.token_numbers import ADVANTAGES, ENTROPIES, GAPS
from llmrl.view.vocabulary import TokenTexts

ABOUT = {
    "advantage": "how much better than expected, by the algorithm's credit",
    "gap": "trainer's log-probability less the engine's",
    "entropy": "of the trainer's distribution at the token, in nats",
    "reward": "reward of the token, or of the step that it stands in",
    "surprise": "negative log-probability by the engine, in nats",
}
"""Numbers of a token by which a page colours it."""
MISSING = {
    "advantage": "No advantages of tokens are in this record: nothing was learned from the turn, or the run is of a "
    "version that did not log them.",
    "gap": "The trainer's log-probabilities are not in this record: this step did not compute them. "
    "rollout.log_trainer=true logs them.",
    "entropy": "No entropies are in this record: this step did not compute them. rollout.log_trainer=true logs them.",
    "reward": "This record has no rewards of tokens or steps: the reward scored the episode as a whole.",
    "surprise": "No log-probabilities are in this record.",
}
NO_TOKENS = "This record has no tokens: rollout.log_tokens_mb was reached, or the run is of an old version."
NO_TOKENIZER = (
    "No tokenizer.json was found in final/, in a checkpoint or in the folder of the recipe's policy: tokens are shown "
    "as numbers. --tokenizer FOLDER names one."
)
KEPT = (
    *("problem", "group", "status", "status_reason", "reference", "answer", "value", "parts", "reason", "audit"),
    *("environment", "prompt", "shown", "tools", "version", "steps", "reward", "advantage", "verdict"),
)
"""Keys of a line that a page gets as they are."""


def detail(line: Mapping[str, Any], vocabulary: TokenTexts) -> dict[str, Any]:
    """The line of an episode as a page shows it; what it lacks is said under `missing`."""
    turns = [turn for turn in line.get("turns") or () if isinstance(turn, dict)]
    last = max((number for number, turn in enumerate(turns) if _own(turn)), default=-1)
    shown = [_turn(turn, line if number == last else {}, vocabulary) for number, turn in enumerate(turns)]
    tokens = [turn["tokens"] for turn in shown if turn["tokens"]]
    missing = {}
    if turns and not tokens:
        missing["tokens"] = NO_TOKENS
    for name, sentence in MISSING.items():
        if tokens and not any(name in each["columns"] for each in tokens):
            missing[name] = sentence
    if tokens and not vocabulary.known:
        missing["tokenizer"] = NO_TOKENIZER
    return {**{key: line[key] for key in KEPT if key in line}, "turns": shown, "missing": missing}


def _own(turn: Mapping[str, Any]) -> bool:
    """True for a turn of a policy that learns."""
    return str(turn.get("model", "policy")).partition(":")[0] == "policy"


def _turn(turn: Mapping[str, Any], line: Mapping[str, Any], vocabulary: TokenTexts) -> dict[str, Any]:
    ids = turn.get("token_ids") or []
    kept = ("text", "reply", "reward", "finish", "version", "whole", "agent", "model", "opened", "snapshot")
    shown = {key: turn[key] for key in kept if key in turn} | {"tokens": None}
    if ids and isinstance(ids, list):
        pieces = vocabulary.pieces(ids)
        shown["tokens"] = {"ids": ids, "pieces": pieces, "columns": _columns(turn, line, pieces, str(turn.get("text")))}
    return shown


def _columns(
    turn: Mapping[str, Any], line: Mapping[str, Any], pieces: Sequence[str], text: str
) -> dict[str, list[float | None]]:
    """Numbers of the tokens of a turn, by the names of `ABOUT`; None at a token that has none."""
    count = len(pieces)
    found: dict[str, list[float | None]] = {}
    for name, key, change in (
        ("advantage", ADVANTAGES, float),
        ("gap", GAPS, float),
        ("entropy", ENTROPIES, float),
        ("surprise", "logprobs", lambda number: -float(number)),
    ):
        column = _spread(turn.get(key), count, change)
        if column is not None:
            found[name] = column
    rewards = _spread(line.get("token_rewards"), count, float) or _of_steps(line, pieces, text)
    if rewards is not None:
        found["reward"] = rewards
    return found


def _spread(numbers: Any, count: int, change: Callable[[Any], float]) -> list[float | None] | None:
    """A number for each token; None where there are not so many."""
    if isinstance(numbers, int | float):
        return [change(numbers)] * count
    if not isinstance(numbers, list) or len(numbers) != count:
        return None
    return [change(number) if isinstance(number, int | float) else None for number in numbers]


def _of_steps(line: Mapping[str, Any], pieces: Sequence[str], text: str) -> list[float | None] | None:
    """The reward of the step in which each token begins, where a process reward gave any."""
    steps, ends = line.get("steps"), line.get("step_ends")
    if not isinstance(steps, list) or not isinstance(ends, list) or len(steps) != len(ends) or not steps:
        return None
    found: list[float | None] = []
    place = step = 0
    for piece in pieces:
        while step < len(ends) and place >= ends[step]:
            step += 1
        found.append(float(steps[step]) if step < len(steps) and place < len(text) else None)
        place += len(piece)
    return found
