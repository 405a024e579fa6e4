"""Rewards as users of other toolkits wrote them; worker processes import this module by its name."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy

LOCK = threading.Lock()  # what no pickle holds


# verl


def compute_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> float:
    assert data_source == "sums", data_source
    return float(solution_str == ground_truth)


def detailed(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any) -> dict[str, Any]:
    right = solution_str.endswith(str(ground_truth))
    return {"score": 1.0 if right else -1.0, "acc": right, "pred": solution_str, "turns": extra_info["num_turns"]}


def sees(ground_truth: Any, extra_info: Any, scale: float = 1.0) -> Any:
    return scale * (ground_truth["target"] + extra_info["index"])


async def waits(data_source: str, solution_str: str, **rest: Any) -> float:
    await asyncio.sleep(0)
    return float(len(solution_str))


def acts(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> Any:
    """Returns or does what the answer says."""
    if solution_str == "raise":
        raise KeyError("gold")
    if solution_str == "hang":
        while True:
            pass
    if solution_str == "exit":
        os._exit(3)
    return {
        "text": "1.0",
        "nan": float("nan"),
        "none": None,
        "list": [1.0],
        "dict": {"reward": 1.0},
        "nan in a dict": {"score": numpy.float64("inf")},
        "array": numpy.array(0.5),
        "numpy": numpy.float32(0.25),
    }[solution_str]


# OpenRLHF


def reward_func(queries: list[str], prompts: list[str], labels: list[str], **kwargs: Any) -> Any:
    answers = [query[len(prompt) :] for query, prompt in zip(queries, prompts, strict=True)]
    return numpy.array([float(answer == label) for answer, label in zip(answers, labels, strict=True)])


def with_logs(queries: list[str], prompts: list[str], labels: list[str]) -> dict[str, Any]:
    right = numpy.array([float(query.endswith(label)) for query, label in zip(queries, labels, strict=True)])
    return {"rewards": 2 * right - 1, "scores": right, "extra_logs": {"length": numpy.array([3.0]), "note": ["x"]}}


def chatml(queries: list[str], prompts: list[str], labels: list[str]) -> list[float]:
    assert all(query.startswith(prompt) for query, prompt in zip(queries, prompts, strict=True))
    said = [query.split("<|im_start|>assistant\n")[-1] for query in queries]
    return [float(one == f"{label}<|im_end|>") for one, label in zip(said, labels, strict=True)]


def spells(queries: list[str], prompts: list[str], labels: list[str]) -> list[float]:
    """Fails unless it was asked what the label says."""
    assert queries == [labels[0]], queries
    return [1.0]


async def later(queries: list[str], prompts: list[str], labels: list[str]) -> list[float]:
    await asyncio.sleep(0)
    return [1.0]


def strange(queries: list[str], prompts: list[str], labels: list[str]) -> Any:
    if labels == ["raise"]:
        raise ZeroDivisionError("oh")
    return {
        "two": numpy.array([1.0, 0.0]),
        "none of them": [],
        "text": ["good"],
        "nan": numpy.array([float("nan")]),
        "dict": {"reward": [1.0]},
        "scores": {"rewards": [1.0], "scores": [1.0, 2.0]},
        "logs": {"rewards": [1.0], "extra_logs": [1.0]},
        "abstains": [None],
    }[labels[0]]


# verifiers


class Rubric:
    """The shape of verifiers' own: functions, weights, a parser, and objects that functions may ask for."""

    def __init__(self, funcs: list[Any], weights: list[float] | None = None, parser: Any = None) -> None:
        self.funcs = funcs
        self.weights = weights or [1.0] * len(funcs)
        self.parser = parser
        self.class_objects = {"parser": parser} if parser else {}
        self.lock = LOCK


class OlderRubric:
    """As releases before 0.1.6 had it."""

    def __init__(self, funcs: list[Any], weights: list[float]) -> None:
        self.reward_funcs = funcs
        self.reward_weights = weights
        self.parser = None


class RubricGroup:
    def __init__(self, rubrics: list[Any]) -> None:
        self.funcs: list[Any] = []
        self.weights: list[float] = []
        self.rubrics = rubrics


class Parser:
    def parse_answer(self, completion: list[dict[str, str]]) -> str:
        return completion[-1]["content"].rpartition("=")[2].strip()


class Environment:
    def __init__(self, rubric: Any) -> None:
        self.rubric = rubric


def right(completion: Any, answer: str, parser: Parser, **kwargs: Any) -> float:
    return 1.0 if parser.parse_answer(completion) == answer else 0.0


async def brief(completion: Any, state: dict[str, Any]) -> float:
    await asyncio.sleep(0)
    state["length"] = len(completion[-1]["content"])
    return float(state["length"] < 10)


def length(state: dict[str, Any], prompt: Any, task: str, info: Any) -> int:
    assert prompt[0]["role"] == "user"
    assert task == "sums"
    assert info["level"] == 3
    return int(state["length"])


def rank(completions: list[Any], prompts: list[Any], answers: list[str]) -> list[float]:
    lengths = [len(one[-1]["content"]) for one in completions]
    return [float(sorted(lengths).index(one)) for one in lengths]


def breaks(completion: Any) -> Any:
    said = completion[-1]["content"]
    if said == "raise":
        raise KeyError("tools")
    return {"nan": float("nan"), "text": "1", "none": None}.get(said, 1.0)


def ranks_badly(completions: list[Any]) -> list[float]:
    return [1.0]


rubric = Rubric(funcs=[right, brief, length], weights=[1.0, 0.5, 0.0], parser=Parser())
older = OlderRubric([brief], [2.0])
group = RubricGroup([Rubric([right], [1.0], Parser()), Rubric([brief, rank, brief], [0.5, 0.1, 1.0])])
broken = Rubric(funcs=[brief, breaks], weights=[1.0, 1.0])
metric = Rubric(funcs=[brief, breaks], weights=[1.0, 0.0])
short_list = Rubric(funcs=[ranks_badly])
lopsided = Rubric(funcs=[right, brief], weights=[1.0])
nothing = Rubric(funcs=[])


def load_environment() -> Environment:
    return Environment(rubric)


# TRL


def brevity(completions: list[Any], limit: int = 10, **kwargs: Any) -> list[float]:
    return [float(len(completion[0]["content"]) < limit) for completion in completions]


def get_brevity(limit: int) -> Callable[..., list[float]]:
    def inner(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(len(ids) < limit) for ids in completion_ids]

    return inner
