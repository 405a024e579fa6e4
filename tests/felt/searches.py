"""Strategies of search: answers and requests in a small tree of words."""

from __future__ import annotations

from random import Random
from typing import Any

from llmrl.types import Sampling
from tests.felt.probe import Options, Probe
from tests.unit.search.worlds import engine, search

LINES: Options = {"step_end": [["b"]], "reward_range": [[0.0, 2.0]], "max_step_tokens": [1]}


def use(strategy: Any) -> Any:
    """The answers of two searches, and all that they asked the engine for."""
    return [_searched(strategy, seed) for seed in (3, 4)]


def _searched(strategy: Any, seed: int) -> Any:
    asked = engine(_reply)
    found = search(strategy, asked, lambda text: 0.91 + Random(text).random() / 12, max_tokens=24, seed=seed)
    return [repr(found), [(ids, repr(sampling)) for ids, sampling in asked.calls]]


def voted(strategy: Any) -> Any:
    """The answer of three, of which one is worth more than each of the two others, and less than both."""
    said, worth = ("1", "2", "2"), {"1": 0.9, "2": 0.6}
    return repr(search(strategy, [f"\\boxed{{{text}}}" for text in said], lambda text: worth[text[-2]]))


def _reply(prefix: str, sampling: Sampling) -> str:
    letter = "abcd"[(sampling.seed or 0) % 4]
    return letter if prefix.count("\n") >= 3 or (sampling.seed or 0) % 7 == 0 else f"{letter}\n"


def probes() -> dict[str, list[Probe]]:
    return {
        "search beam": [
            Probe(
                use=use,
                base={"width": 2, "branch": 2, "max_steps": 3},
                values={**LINES, "groups": [2], "max_steps": [1]},
            )
        ],
        "search best_of_n": [Probe(use=use, base={"n": 3})],
        "search majority": [Probe(use=use, base={"n": 3})],
        "search plan_mcts": [
            Probe(
                use=use,
                base={"iterations": 12, "children": 2, "max_depth": 3, "root_children": 2},
                values={
                    **LINES,
                    "reward_range": [[0.9, 1.0], [-9.0, 1.0]],
                    "c_puct": [50.0, 0.01],
                    "max_depth": [1, 2],
                },
            )
        ],
        "search refine": [Probe(use=use, base={"rounds": 2}, values={"instruction": ["Again."]})],
        "search weighted_majority": [
            *(Probe(use=use, base={"n": n}) for n in (5, 9)),
            Probe(use=voted, base={"n": 3}, values={"how": ["max"]}, only=True),
        ],
        "search x1_mcts": [
            Probe(
                use=use,
                base={"iterations": 12, "children": 2, "max_depth": 3},
                values={**LINES, "learning_rate": [0.01], "max_depth": [1, 2], "gamma": [0.01]},
            )
        ],
    }
