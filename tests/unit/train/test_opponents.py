"""Opponents have engines, labels and temperatures of their own."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from llmrl.chat import Chat
from llmrl.tiny import make_tokenizer
from llmrl.train.opponents import started_opponents


class Engines:
    """An engine and what starts it; notes both ends."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.closed = 0

    def start(self, model: str, **asked: Any) -> Engines:
        self.started = {"model": model, **asked}
        return self

    def close(self) -> None:
        self.closed += 1


def test_an_opponent_is_as_its_options_say() -> None:
    fixed, learns = Engines(), Engines()
    opponents = {
        "second": SimpleNamespace(model=None, engine=fixed, learns=False, label="as it began", temperature=0.3),
        "third": SimpleNamespace(model=None, engine=learns, learns=True, label="", temperature=0.7),
    }
    recipe: Any = SimpleNamespace(
        rollout=SimpleNamespace(opponents=opponents, temperature=1.0, max_length=500),
        model=SimpleNamespace(policy="p", trust_remote_code=False),
        compute_dtype="bfloat16",
        train=SimpleNamespace(seed=5),
    )
    with ExitStack() as started:
        made = started_opponents(recipe, Chat(make_tokenizer()), [7], started)
        assert {name: each.temperature for name, each in made.items()} == {"second": 0.3, "third": 0.7}
        assert [id(made[name].engine) for name in ("second", "third")] == [id(fixed), id(learns)]
        assert made["second"].model == "as it began"
        assert made["third"].model != made["second"].model
        asked = {"model": "p", "dtype": "bfloat16", "seed": 5, "max_model_len": 500, "stop_token_ids": [7]}
        assert fixed.started == asked
    assert (fixed.closed, learns.closed) == (1, 1)
