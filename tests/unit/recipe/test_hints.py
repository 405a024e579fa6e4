"""Keys in the wrong place: the message says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import recipe
from llmrl.errors import RecipeError
from llmrl.plugins import build

DEMO = Path(recipe.__file__).parents[2] / "recipes" / "demo.yaml"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["learning_rate=1e-4"], r"learning_rate: unknown key; expected train\.learning_rate=1e-4 or critic"),
        (["num_generations=3"], r"expected rollout\.num_generations=3$"),
        (["bf16=true"], r"expected train\.bf16=true$"),
        (["beta=0.1"], r"expected algorithm\.beta=0.1$"),
        (["train.max_completion_length=3"], r"expected rollout\.max_completion_length=3"),
        (["rollout.gradient_accumulation_steps=3"], r"expected algorithm\.minibatches"),
        (["lr=1"], r"expected train\.learning_rate"),
        (["reward_funcs=[a]"], r"expected reward='\{name: mix"),
        (["model=Qwen/x"], r"such as model\.policy=Qwen/x"),
        (
            ["engine.gpu_memory_utilization=0.3", "engine.name=hf"],
            r"an option of server, vllm, and engine is hf.*'\{name: hf\}'",
        ),
        (["data.name=gsm8k"], r"data\.low: an option of arithmetic, and data is gsm8k here"),
        (["reward.name=accuracy_reward"], r"expected math_verify, or TRL's own as trl\.rewards:accuracy_reward"),
        (["algorithm=dpo"], r"unknown algorithm 'dpo'; expected preference"),
        (["train.nothing_like_it=1"], r"train\.nothing_like_it: unknown key; known: max_steps"),
    ],
)
def test_what_to_type_instead(overrides: list[str], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        recipe.read(DEMO, overrides)


def test_a_plugin_may_be_a_name_and_get_options_behind_it() -> None:
    made = recipe.read(DEMO, ["reward=regex", "reward.pattern=(\\d+)"])
    assert made.as_dict()["reward"]["pattern"] == "(\\d+)"


def mine(completions: list[str], **_: object) -> list[float]:
    return [0.0 for _ in completions]


@pytest.mark.parametrize("spec", [{"name": mine}, mine])
def test_a_function_in_place_of_its_name_says_what_to_do(spec: object) -> None:
    with pytest.raises(RecipeError, match=r"a function itself; .* as text, such as '.*:mine'.*reward=mine"):
        build("reward", spec)  # type: ignore[arg-type]
