"""Runs of one sign or of tokens, removed and counted at once, against the rules applied one by one."""

from __future__ import annotations

import re
from itertools import product
from random import Random

from llmrl.reasoning.layout import steps_in
from llmrl.rewards.exact import unmarked
from llmrl.rewards.repetition import Repetition, repeated


def one_by_one(text: str) -> str:
    """The rule of `unmarked`, a pair at a time."""
    first, last = 0, len(text) - 1
    while last - first >= 2 and text[first] == text[last] and text[first] in "*`$":
        size = 1
        if last - first >= 4 and text[first] == text[first + 1] == text[last - 1] == "*":
            size = 1 if text[first + 2].isspace() or text[last - 2].isspace() else 2
        elif text[first + 1].isspace() or text[last - 1].isspace():
            break
        first, last = first + size, last - size
    return text[first : last + 1]


def test_a_run_of_signs_is_removed_as_a_pair_at_a_time() -> None:
    for length in range(9):
        for signs in product("*$ a", repeat=length):
            text = "".join(signs)
            assert unmarked(text) == one_by_one(text), text
    random = Random(1)
    for _ in range(2000):
        text = "".join(random.choice("**$` a") * random.choice((1, 2, 3, 7)) for _ in range(random.randrange(9)))
        assert unmarked(text + text[::-1]) == one_by_one(text + text[::-1]), text


def test_runs_of_tokens_are_those_of_tuples_and_each_of_their_tokens_is_charged() -> None:
    random = Random(2)
    for kinds, windows in (
        (1, (1, 40)),
        (2, (1, 2, 3)),
        (5, (2, 3)),
        (70_000, (3,)),
    ):  # the last needs more than two bytes
        tokens = [random.randrange(kinds) for _ in range(60)] + list(range(kinds if kinds > 5 else 0)) + [1, 2, 3, 1, 2]
        for window in windows:
            runs = [tuple(tokens[i : i + window]) for i in range(len(tokens) - window + 1)]
            first = {run: place for place, run in reversed(list(enumerate(runs)))}
            again = [first[run] < place for place, run in enumerate(runs)]
            assert repeated(tokens, window) == again
            charged = {i for start, said in enumerate(again) if said for i in range(start, start + window)}
            rewards = Repetition(window=window, penalty=-1.0).of(tokens).token_rewards
            assert rewards == [-float(place in charged) for place in range(len(tokens))]


def test_steps_are_the_matches_of_their_expression() -> None:
    for parts in product(("<step>", "</step>", "a"), repeat=6):
        text = "".join(parts)
        assert steps_in(text) == len(re.findall(r"<step>(.*?)</step>", text, re.DOTALL))
