"""The functions that answer `cases/habits.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.rewards.behaviour_judge import count
from llmrl.rewards.countdown import CountdownVerifier
from llmrl.types import Problem

Given = Mapping[str, Any]


def countdown_score(given: Given) -> dict[str, Any]:
    return {"scores": [CountdownVerifier()(_puzzle(given), response).value for response in given["responses"]]}


def countdown_score_subset(given: Given) -> dict[str, Any]:
    return {
        "exact": CountdownVerifier(rule="exact")(_puzzle(given), given["response"]).value,
        "subset": CountdownVerifier(rule="subset")(_puzzle(given), given["response"]).value,
    }


def behaviour_count_parse(given: Given) -> dict[str, Any]:
    counts = [count(reply) for reply in given["replies"]]
    known = [number for number in counts if number is not None]
    return {"counts": counts, "mean": sum(known) / len(known)}


def _puzzle(given: Given) -> Problem:
    return Problem(id="p", messages=[], info={"nums": given["nums"], "target": given["target"]})
