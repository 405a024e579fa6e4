"""Tasks of reasoning-gym (0.1.25): those that are not used, each with its reason, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmrl.errors import DataError, LlmrlError
from llmrl.plugins import did_you_mean

Config = Mapping[str, Any]
NO_ANSWER = "its problems have no answer of their own, so that its verifier cannot be tried"
NO_REPEAT = "its problems differ from process to process, so that ranks and resumed runs would disagree"
NO_JSON = "its own answer earns 0.05 once the problem has been JSON, behind a reward server say"
LEFT_OUT: Mapping[str, str] = {
    "arc_agi": NO_JSON,
    "boxnet": NO_ANSWER,
    "codeio": NO_REPEAT,
    "coin_flip": "its verifier gives 1 to the answer 0 where a probability begins with it",
    "composite": "it is made of others",
    "game_of_life_halting": "its verifier gives 1 to any text",
    "graph_color": NO_ANSWER,
    "intermediate_integration": NO_REPEAT,
    "isomorphic_strings": NO_REPEAT,
    "knight_swap": NO_REPEAT,
    "list_functions": NO_REPEAT,
    "polynomial_multiplication": NO_REPEAT,
    "propositional_logic": NO_ANSWER,
    "ransom_note": NO_REPEAT,
    "rearc": NO_JSON,
    "rubiks_cube": NO_ANSWER,
    "rush_hour": NO_ANSWER,
    "word_ladder": NO_REPEAT,
}


def tasks() -> list[str]:
    """Names of the tasks that are used, sorted.

    Raises:
        LlmrlError: reasoning-gym is not installed.
    """
    _creator()
    from reasoning_gym.factory import DATASETS  # type: ignore[import-not-found]

    return sorted(set(DATASETS) - set(LEFT_OUT))


def open_task(name: str, size: int, seed: int, config: Config) -> Any:
    """A task's problems: a sequence of questions and answers, with `score_answer`.

    Raises:
        LlmrlError: reasoning-gym is not installed.
        DataError: no such task, one that is left out, or a configuration that it refuses.
    """
    create = _creator()
    if name in LEFT_OUT:
        raise DataError(f"reasoning-gym task {name!r} is left out: {LEFT_OUT[name]}")
    known = tasks()
    if name not in known:
        raise DataError(f"reasoning-gym has no task {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    try:
        return create(name, size=size, seed=seed, **config)
    except (TypeError, ValueError, AssertionError) as error:
        raise DataError(f"reasoning-gym task {name!r} refuses {dict(config)!r:.80}: {error}") from None


def _creator() -> Callable[..., Any]:
    try:
        from reasoning_gym import create_dataset  # type: ignore[import-not-found]
    except ImportError:
        raise LlmrlError("reasoning-gym is not installed: pip install 'llmrl[reasoning-gym]'") from None
    create: Callable[..., Any] = create_dataset
    return create
