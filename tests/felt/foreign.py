"""Rewards and environments in the forms of other libraries: a function, and another one, of `elsewhere`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from llmrl.types import Message, Problem
from tests.felt.elsewhere import HERE
from tests.felt.probe import Probe
from tests.felt.rewards import answers, problem, scoring

TOLD = answers(problem("4", data_source="sums"), "so 4", "five", "The answer is 4")
UNTOLD = answers(problem("4"), "so 4", "five")
ASKED = Problem(id="n", messages=[{"role": "user", "content": "Guess a number."}], answer="7")


def say(text: str) -> Message:
    """An answer in words."""
    return {"role": "assistant", "content": text}


def call_of(name: str, **arguments: Any) -> Message:
    """An answer that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def calls(*answers: Message) -> Message:
    """An answer with the calls of several."""
    made = [one for answer in answers for one in answer["tool_calls"]]
    return {**answers[0], "tool_calls": made}


def playing(*messages: Message, asked: Problem = ASKED) -> Callable[[Any], Any]:
    """A use: the observations of an episode with these answers."""

    async def play(env: Any) -> Any:
        episode = env.make(asked)
        seen = [await episode.reset()]
        for message in messages:
            if not seen[-1].done:
                seen.append(await episode.step(message))
        await episode.close()
        return seen

    return lambda env: asyncio.run(play(env))


def of(*names: str) -> Sequence[str]:
    """Names as a recipe gives them."""
    return [f"{HERE}:{name}" for name in names]


def probes() -> dict[str, list[Probe]]:
    score, counted = of("compute_score", "counted_score")
    asked, labelled = of("reward_func", "label_func")
    lengths, words = of("lengths", "words")
    right, brief = of("RIGHT", "BRIEF")
    return {
        "reward verl": [
            Probe(
                use=scoring(TOLD),
                base={"function": score},
                values={"function": [counted], "correct_at": [6.0], "reward_kwargs": [{"more": 2.0}]},
            ),
            Probe(
                use=scoring(UNTOLD),
                base={"function": score, "data_source": "a"},
                values={"data_source": ["abc"]},
                only=True,
            ),
        ],
        "reward openrlhf": [
            Probe(use=scoring(TOLD), base={"function": asked}, values={"function": [labelled], "correct_at": [30.0]})
        ],
        "reward trl": [
            Probe(
                use=scoring(TOLD),
                base={"function": lengths},
                values={"function": [words], "kwargs": [{"scale": 0.5}], "correct_at": [40.0]},
            )
        ],
        "reward verifiers": [
            Probe(use=scoring(TOLD), base={"rubric": right}, values={"rubric": [brief], "correct_at": [0.5]})
        ],
    } | _environments()


def _environments() -> dict[str, list[Probe]]:
    return {
        "env gymnasium": [
            Probe(
                use=playing(say("3"), say("seven"), say("12345")),
                base={"make_env": of("Counter")[0]},
                values={
                    "make_env": of("Doubler"),
                    "kwargs": [{"start": 4}],
                    "observation": of("shown"),
                    "action": of("typed"),
                },
            )
        ],
        "env trl": [
            Probe(
                use=playing(
                    calls(*(call_of("look", place=place) for place in ("left", "right", "below"))), say("done")
                ),
                base={"factory": of("Shelf")[0]},
                values={"factory": of("Table"), "max_calls": [2], "max_characters": [50]},
            )
        ],
        "env verifiers": [
            Probe(
                use=playing(say("3"), say("7")),
                base={"environment": of("Guessing")[0]},
                values={"environment": of("Mute"), "kwargs": [{"polite": True}]},
            )
        ],
    }
