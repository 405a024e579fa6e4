"""The scripted engine: what was written comes out, as token ids, and limits hold."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.errors import EngineError, RecipeError
from llmrl.plugins import build
from llmrl.protocols import Engine
from llmrl.types import Completion, Sampling

END = 128


class Ascii:
    """A token per character; 128 ends a sequence."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids if i < END)


def engine(**options: Any) -> ScriptedEngine:
    return ScriptedEngine(tokenizer=Ascii(), options=Scripted(**options), stop_token_ids=(END,), max_model_len=20)


def ask(engine: ScriptedEngine, prompt: str = "1+1=", **sampling: Any) -> Completion:
    return asyncio.run(engine.generate([ord(letter) for letter in prompt], Sampling(**sampling)))


def test_texts_are_given_in_order_and_then_again() -> None:
    e = engine(replies=["2", "no"], logprob=-0.25)
    said = [ask(e) for _ in range(3)]
    assert [list(c.token_ids) for c in said] == [[ord("2"), END], [ord("n"), ord("o"), END], [ord("2"), END]]
    assert list(said[1].logprobs) == [-0.25] * 3
    assert {c.finish for c in said} == {"stop"}


def test_a_function_reads_prompt_and_sampling() -> None:
    e = engine(replies=lambda prompt, sampling: f"{prompt}{sampling.seed}")
    assert list(ask(e, "a", seed=7).token_ids) == [ord("a"), ord("7"), END]
    assert e.calls == [([ord("a")], Sampling(seed=7))]


@pytest.mark.parametrize(("prompt", "limit", "kept"), [("1+1=", 2, 2), ("x" * 18, 9, 2), ("1+1=", 3, 3)])
def test_a_limit_cuts_the_reply_and_is_told(prompt: str, limit: int, kept: int) -> None:
    said = ask(engine(replies=["abc"]), prompt, max_tokens=limit)
    assert list(said.token_ids) == [ord(letter) for letter in "abc"][:kept]
    assert said.finish == "length"
    assert len(said.logprobs) == kept


def test_a_prompt_without_room_is_refused() -> None:
    with pytest.raises(EngineError, match="20 tokens: no room below max_model_len=20"):
        ask(engine(), "x" * 20)


def test_semantics_follow_the_sampling() -> None:
    assert ask(engine()).semantics == "scaled"
    assert ask(engine(), top_p=0.9).semantics == "renormalised"


def test_load_reads_every_weight_and_sets_the_version() -> None:
    e, read = engine(), []
    e.load(((name, read.append(name)) for name in "ab"), version=3)  # type: ignore[misc, func-returns-value]
    assert read == ["a", "b"]
    assert ask(e).version == 3


def test_it_answers_only_while_awake_and_open() -> None:
    e: Engine = engine()
    e.sleep()
    with pytest.raises(EngineError, match="asleep"):
        asyncio.run(e.score([1, 2]))
    e.wake()
    assert asyncio.run(e.score([1, 2])) == [-1.0]
    e.close()
    e.close()
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(e.generate([1], Sampling()))


def test_it_is_built_by_name() -> None:
    made = build("engine", {"name": "scripted", "replies": ["4"]})
    assert made == pickle.loads(pickle.dumps(made))
    with pytest.raises(RecipeError, match="at least one text"):
        build("engine", {"name": "scripted", "replies": []})


def test_a_stand_in_for_a_server_never_sleeps() -> None:
    running = engine(replies=("a",), concurrent=True)
    running.sleep()
    assert list(ask(running).token_ids) == [ord("a"), END]


@pytest.mark.parametrize(
    ("limit", "kept", "finish", "stopped_by"),
    [(9, "ab;", "stop", ";"), (3, "ab;", "stop", ";"), (2, "ab", "length", None)],
)
def test_a_stop_string_ends_a_reply_and_is_kept(limit: int, kept: str, finish: str, stopped_by: str | None) -> None:
    completion = ask(engine(replies=["ab;cd;"]), max_tokens=limit, stop=(";",))
    assert list(completion.token_ids) == [ord(letter) for letter in kept]
    assert (completion.finish, completion.stopped_by, len(completion.logprobs)) == (finish, stopped_by, len(kept))
    assert ask(engine(replies=["ab"]), stop=(";",)).stopped_by is None, "the model ended it"
