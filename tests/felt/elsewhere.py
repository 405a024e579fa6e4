"""Functions and environments in the forms of other libraries; workers import this module, so it is small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

HERE = __name__


# verl, OpenRLHF, TRL, verifiers: rewards


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, more: float = 0
) -> Any:
    """A score in verl's form."""
    return len(solution_str) + len(data_source) / 100 + more


def counted_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> Any:
    """Another one."""
    return 2.0 * len(solution_str)


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> list[float]:
    """A score in OpenRLHF's form."""
    return [float(len(query)) for query in queries]


def label_func(queries: list[str], prompts: list[str], labels: list[str]) -> list[float]:
    """Another one."""
    return [float(query.rstrip().endswith(label)) for query, label in zip(queries, labels, strict=True)]


def lengths(completions: list[Any], scale: float = 1.0, **columns: Any) -> list[float]:
    """Scores in TRL's form."""
    return [scale * len(str(each)) for each in completions]


def words(completions: list[Any], **columns: Any) -> list[float]:
    """Others."""
    return [float(len(str(each).split())) for each in completions]


def right(completion: Any, answer: str) -> float:
    """A function of a rubric: the answer is said."""
    return float(str(completion[-1]["content"]).endswith(answer))


def brief(completion: Any) -> float:
    """A function of a rubric: little is said."""
    return 1 / (1 + len(str(completion[-1]["content"])))


class Rubric:
    """A rubric of verifiers, of one function."""

    def __init__(self, function: Any) -> None:
        self.funcs, self.weights = [function], [1.0]


RIGHT, BRIEF = Rubric(right), Rubric(brief)


# Gymnasium, TRL, verifiers, OpenEnv: environments


class Counter:
    """An environment of Gymnasium: it counts letters, from `start`."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def reset(self, seed: int, options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin."""
        return {"count": self.count}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act."""
        self.count += len(str(action))
        return {"count": self.count}, float(self.count), self.count > 9, False, {"count": self.count}

    def close(self) -> None:
        """End."""


class Doubler(Counter):
    """Another one."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act twice."""
        super().step(action)
        return super().step(action)


class Shelf:
    """An environment of TRL, whose public method is a tool."""

    def reset(self) -> str:
        """Begin."""
        return " Look around."

    def look(self, place: str) -> str:
        """Look at a place.

        Args:
            place: where.
        """
        return f"{place}: " + "a book, " * 20

    def get_reward(self) -> float:
        """The reward of the episode."""
        return 0.25


class Table(Shelf):
    """Another one."""

    def get_reward(self) -> float:
        """The reward of the episode."""
        return 0.75


class Guessing:
    """An environment of verifiers: a number is guessed with hints."""

    max_turns = 3

    def __init__(self, polite: bool = False) -> None:
        self.polite, self.rubric = polite, RIGHT

    def is_completed(self, messages: list[Any], state: Mapping[str, Any]) -> bool:
        """True where the number was said."""
        return bool(messages[-1]["content"] == state["answer"])

    def env_response(self, messages: list[Any], state: Mapping[str, Any]) -> list[dict[str, str]]:
        """A hint."""
        return [{"role": "user", "content": "No, please." if self.polite else "No."}]


class Mute(Guessing):
    """Another one."""

    def env_response(self, messages: list[Any], state: Mapping[str, Any]) -> list[dict[str, str]]:
        """No hint."""
        return [{"role": "user", "content": "..."}]


class NumberClient:
    """A client in OpenEnv's form."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def reset(self, **given: Any) -> Mapping[str, Any]:
        """Begin."""
        return {"observation": sorted(given)}

    def step(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        """Act."""
        return {"observation": "own", "reward": 1.0, "done": False}

    def close(self) -> None:
        """End."""


def shown(observation: Any) -> str:
    """The text of an observation."""
    return f"seen: {json.dumps(observation)[:12]}"


def typed(text: str) -> Any:
    """The action of a text."""
    if not text.isdigit():
        raise ValueError("expected digits")
    return {"number": int(text)}


def calculator(expression: str) -> str:
    """Count the letters of an expression.

    Args:
        expression: any.
    """
    return str(len(expression))
