"""Worked countdown puzzles that show chosen habits of thought, to fine-tune on before reinforcement learning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from llmrl.data.countdown import TEMPLATE
from llmrl.data.countdown_generated import CountdownGenerated, Line, Operation, Puzzle, apply, combine
from llmrl.errors import DataError
from llmrl.plugins import did_you_mean

Habit = Literal["verification", "backtracking", "subgoal", "backward_chaining"]
Condition = Literal[
    "all",
    "backtracking_verification",
    "backtracking_subgoal",
    "backtracking_backward",
    "backtracking_only",
    "empty",
    "filler",
    "incorrect",
]
EVERY: frozenset[Habit] = frozenset(("verification", "backtracking", "subgoal", "backward_chaining"))
HABITS: Mapping[Condition, frozenset[Habit]] = {
    "all": EVERY,
    "backtracking_verification": frozenset(("backtracking", "verification")),
    "backtracking_subgoal": frozenset(("backtracking", "subgoal")),
    "backtracking_backward": frozenset(("backtracking", "backward_chaining")),
    "backtracking_only": frozenset(("backtracking",)),
    "empty": frozenset(),  # control: no thoughts, then the answer
    "filler": frozenset(),  # control: as many dots as `all` has words, then the answer
    "incorrect": EVERY,  # control: every habit, and an answer that is wrong
}
MAX_ATTEMPTS = 3  # that fail, before the last

OPENINGS = ("I have {nums} and need {target}.", "The numbers are {nums}, the target is {target}.")
TRIES = ("I take {steps}.", "One way: {steps}.", "That could be {steps}.")
GIVING_UP = (
    "That leads nowhere, so let me try another combination.",
    "Scrap that and start over.",
    "A dead end. I go back to the numbers I was given.",
    "No luck. Let me try a different order.",
)
WRONG = ("{value} is not the target {target}.", "That gives {value}, which is too {side} for {target}.")
RIGHT = (
    "Check: {expression} = {target}, which is the target.",
    "{target} matches the target, and every number is used.",
)
BACKWARD = (
    "Working backwards from {target}: before {move} as the last step there must be {needed}, since {step}.",
    "Start with the target: to end at {target} by {move}, I need {needed} before it, as {step}.",
)
SUBGOALS = (
    "First I want to make {value}.",
    "A useful intermediate value is {value}.",
    "If I can make {value}, the rest is short.",
)
SETTLING = ("I stop here and write this down.", "This is as far as I get, and it is my answer.")
UNDO = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True)
class Priming:
    """`count` rows for supervised fine-tuning: a puzzle as `prompt`, and thoughts with an answer as `completion`.

    Every sum that a row works out is right, also where its answer is wrong; conditions differ in the habits shown, and
    in their order. Equal seeds give the same puzzles in every condition. Habits, conditions and sizes
    (1,000 rows to train on, 200 to test with) follow Gandhi et al. 2025 (arXiv 2503.01307), who let a language model
    write them; these are put together from sentences of our own. The game of 24 never appears: it is a test.
    """

    condition: Condition = "all"
    count: int = 1000
    split: Literal["train", "heldout"] = "train"
    low_target: int = 10
    high_target: int = 25
    seed: int = 0
    template: str = TEMPLATE

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows with `id`, `prompt` and `completion` (lists of messages), `condition`, `nums`, `target`, `correct`.

        Raises:
            DataError: there are fewer puzzles than `count`.
        """
        made = CountdownGenerated(
            split=self.split, count=self.count, low_target=self.low_target, high_target=self.high_target, seed=self.seed
        )
        for number, puzzle in enumerate(made.puzzles()):
            thoughts, answer = self._trace(puzzle, Random(f"priming/{self.seed}/{number}"))
            asked = self.template.format(nums=", ".join(map(str, puzzle.nums)), target=puzzle.target)
            text = f"<think>{thoughts}</think>\n<answer> {answer.expression} </answer>"
            yield {
                "id": f"priming/{self.condition}/{self.split}/{number}",
                "prompt": [{"role": "user", "content": asked}],
                "completion": [{"role": "assistant", "content": text}],
                "condition": self.condition,
                "nums": list(puzzle.nums),
                "target": puzzle.target,
                "correct": answer.value == puzzle.target,
            }

    def _trace(self, puzzle: Puzzle, random: Random) -> tuple[str, Line]:
        """Write the thoughts; also return the line that is the answer."""
        if self.condition == "empty":
            return "\n", puzzle.solution
        if self.condition == "filler":
            thoughts, answer = replace(self, condition="all")._trace(puzzle, random)
            return " ".join("." * len(thoughts.split())), answer
        habits = HABITS[self.condition]
        failures = _failures(puzzle, random)
        sentences = [_say(random, OPENINGS, nums=", ".join(map(str, puzzle.nums)), target=puzzle.target)]
        for line in failures[:-1]:
            sentences += _attempt(line, puzzle, habits, random)
            sentences.append(_say(random, GIVING_UP))
        last = failures[-1] if self.condition == "incorrect" else puzzle.solution
        sentences += _attempt(last, puzzle, habits, random)
        if self.condition == "incorrect":
            sentences.append(_say(random, SETTLING))
        return "\n".join(["", *sentences, ""]), last


def _failures(puzzle: Puzzle, random: Random) -> list[Line]:
    """Combinations of all the numbers that miss the target: attempts, and a last one as a wrong answer."""
    wanted = random.randint(1, MAX_ATTEMPTS) + 1
    found: dict[str, Line] = {}
    while len(found) < wanted:
        line = combine(puzzle.nums, "+-*/", random)
        if line is not None and line.value != puzzle.target:
            found[line.expression] = line
    return list(found.values())


def _attempt(line: Line, puzzle: Puzzle, habits: frozenset[Habit], random: Random) -> list[str]:
    """Sentences that work a line out, and those after it."""
    sentences, target = [], puzzle.target
    if "backward_chaining" in habits:
        sentences.append(_backward(line, puzzle.nums, target, random))
    if "subgoal" in habits:
        sentences.append(_say(random, SUBGOALS, value=line.operations[0].value))
    sentences.append(_say(random, TRIES, steps=", then ".join(map(str, line.operations))))
    if "verification" in habits and line.value == target:
        sentences.append(_say(random, RIGHT, expression=line.expression, target=target))
    elif "verification" in habits:
        side = "high" if line.value > target else "low"
        sentences.append(_say(random, WRONG, value=line.value, target=target, side=side))
    return sentences


def _backward(line: Line, nums: Sequence[int], target: int, random: Random) -> str:
    """Go from the target back by one of the numbers: by the line's last operation where it takes one, else by any."""
    last = line.operations[-1]
    moves = [(last.op, last.right)] if last.right in nums else [(op, number) for op in "+-*" for number in nums]
    if last.op in "+*" and last.left in nums:
        moves = [(last.op, last.left)]
    whole = [(op, n, needed) for op, n in moves if (needed := apply(target, UNDO[op], n)) is not None]
    op, number, needed = random.choice(whole or [("-", nums[0], target + nums[0])])
    step = Operation(target, UNDO[op], number, needed)
    return _say(random, BACKWARD, target=target, move=f"{op} {number}", needed=needed, step=step)


def _say(random: Random, phrases: Sequence[str], **values: object) -> str:
    return random.choice(phrases).format(**values)


def write(condition: str, path: Path, **options: Any) -> None:
    """Write the rows, one JSON object a line.

    Raises:
        DataError: no such condition, too few puzzles, or the file cannot be written.
    """
    if condition not in HABITS:
        raise DataError(
            f"priming: unknown condition {condition!r}{did_you_mean(condition, HABITS)}; known: {', '.join(HABITS)}"
        )
    try:
        with open(path, "w", encoding="utf-8") as file:
            for row in Priming(cast(Condition, condition), **options).rows():
                file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; choose another --out") from None
