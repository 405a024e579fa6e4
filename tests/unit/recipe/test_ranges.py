"""Numbers out of range are refused when a recipe is read: each number of each section and of each plug-in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from math import inf, nan
from typing import Any, get_args, get_type_hints

import pytest

from llmrl import plugins
from llmrl.errors import RecipeError
from llmrl.plugins import construct
from llmrl.recipe.options import TrainOptions
from tests.options import owners

UNLIMITED = {"TrainOptions.max_grad_norm", "RolloutOptions.log_tokens_mb"}
NEGATIVE = {  # numbers below 0 that mean something: rewards and thresholds of rewards, log-probabilities, operands
    *("algorithm bc.min_reward", "algorithm webrl.min_reward", "algorithm bcoder.max_reward"),
    *("algorithm kto.desirable_above", "algorithm oreal.right_above", "algorithm oreal.wrong_reward"),
    *("algorithm nlpo.missing_eos_penalty", "algorithm ppo.missing_eos_penalty"),
    *("algorithm preference.advantage_margin", "algorithm step_apo.advantage_margin"),
    *("engine scripted.logprob", "env dialogue.correct_from", "data arithmetic.low"),
    *("reward countdown.format_score", "reward degenerate.penalty", "reward degenerate.truncated"),
    *("reward judge.lowest", "reward repetition.penalty", "reward swe_tests.malformed"),
    *(f"reward {name}.correct_at" for name in ("openrlhf", "trl", "verifiers", "verl")),
    *(f"reward cosine_length.{end}" for end in ("correct_shortest", "correct_longest", "wrong_shortest")),
    *("reward cosine_length.wrong_longest", "reward cosine_length.exceed", "reward open_r1.repetition_max_penalty"),
    *(f"reward open_r1.cosine_{end}_value_{kind}" for end in ("min", "max") for kind in ("wrong", "correct")),
    *(f"reward salmon.{name}" for name in ("negate", "length", "length_reasoning", "length_scale", "no_stop")),
    "reward salmon.language_bonus",
}


def numbers() -> Iterator[tuple[str, type, str, type]]:
    """Each number among the options: its name, and class, field and type."""
    for name, owner in owners():
        hints = get_type_hints(owner)
        for field in fields(owner):
            for number in (int, float):
                if field.init and number in (hints[field.name], *get_args(hints[field.name])):
                    yield f"{name}.{field.name}", owner, field.name, number


NUMBERS = list(numbers())


@pytest.mark.parametrize(("name", "owner", "field", "number"), NUMBERS, ids=[name for name, *_ in NUMBERS])
def test_a_number_out_of_range_is_refused(name: str, owner: type, field: str, number: type) -> None:
    """The number is refused before options are missed that a plug-in also wants."""
    bad: list[Any] = [2**70, -1] if number is int else [nan, -inf, inf, -1.0]
    for value in bad:
        if (value == inf and name in UNLIMITED) or (value == -1 and name in NEGATIVE):
            continue
        with pytest.raises(RecipeError) as error:
            construct(owner, {field: value}, "options")
        assert "it has no default" not in str(error.value), f"{value} passes: write a range in the type"


def test_the_exceptions_are_options() -> None:
    assert {name for name, *_ in NUMBERS} >= NEGATIVE | UNLIMITED


def test_a_refusal_names_place_range_and_value() -> None:
    with pytest.raises(RecipeError, match=r"train\.adam_beta2: input should be less than 1; found 1\.5"):
        construct(TrainOptions, {"adam_beta2": 1.5}, "train")
    with pytest.raises(RecipeError, match=r"source\.quantiles\[1\]: expected a finite number, found nan"):
        plugins.build("source", {"name": "returns", "quantiles": [0.5, nan]}, "source")
