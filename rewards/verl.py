"""A reward written for verl: `compute_score(data_source, solution_str, ground_truth, extra_info)`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.errors import DataError
from llmrl.scoring.foreign import ByAnswer, judged, numbers, returned
from llmrl.scoring.trl_functions import accepted
from llmrl.types import Problem, Score, Trajectory

RESERVED = ("num_turns", "rollout_reward_scores")
"""Keys of `extra_info` that verl sets for each answer."""


@dataclass(frozen=True, kw_only=True)
class Verl(ByAnswer):
    """Value that a function returns for each answer: a number, or a dict whose `score` is the value.

    It gets the answer alone, without special tokens, as `solution_str`; as `ground_truth` that of `reward_model` in
    `info`, of whatever type, or else the problem's answer; `data_source` and `extra_info` from the columns of that
    name. It may be async. The other numbers of a dict are parts; `acc`, where it is 0 or 1, is the verdict unless
    `correct_at` is set; `pred`, where it is a text, is the answer that was read. None abstains; anything else is an
    error.

    Raises:
        RecipeError: the function cannot be imported.
    """

    reward_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)  # arguments for every call
    data_source: str | None = None  # of problems that name none

    def require_free(self, problem: Problem) -> None:
        """Refuse a problem whose `extra_info` has a key that verl fills itself.

        Raises:
            DataError: names the problem and the key.
        """
        given = problem.info.get("extra_info")
        if taken := [name for name in RESERVED if isinstance(given, Mapping) and name in given]:
            raise DataError(
                f"problem {problem.id}: extra_info has {taken[0]!r}, which verl fills itself; rename the key"
            )

    def arguments(self, trajectory: Trajectory) -> dict[str, Any]:
        info, answer = trajectory.problem.info, trajectory.problem.answer
        model, given = info.get("reward_model"), info.get("extra_info") or {}
        self.require_free(trajectory.problem)
        sources = (info.get("data_source"), self.data_source, info.get("source"))
        return {
            "data_source": next((source for source in sources if source is not None), None),
            "solution_str": trajectory.text,
            "ground_truth": model.get("ground_truth", answer) if isinstance(model, Mapping) else answer,
            "extra_info": {
                **given,
                "num_turns": 2
                * len(
                    trajectory.turns if trajectory.last is None else trajectory.turns_of(trajectory.last.agent)
                ),  # messages of both sides
                "rollout_reward_scores": {},
            },
        }

    def ask(self, arguments: dict[str, Any]) -> Any:
        if arguments["data_source"] is None:
            raise LookupError("no data_source: give the problems a column of that name, or the reward the option")
        return returned(
            self.named.function, **accepted(self.named.function, arguments), **deepcopy(dict(self.reward_kwargs))
        )

    def read(self, result: Any) -> Score:
        if not isinstance(result, Mapping):
            return judged(result, self.correct_at, {})
        if "score" not in result:
            raise ValueError(f"returned a dict of {', '.join(map(str, result)) or 'nothing'}; expected one with score")
        others = {name: value for name, value in result.items() if name != "score"}
        parts = numbers(others)
        told = ", ".join(f"{name} {value!r:.80}" for name, value in others.items() if name not in parts)
        read = result.get("pred")  # as verl's own functions call it
        score = judged(result["score"], self.correct_at, parts, told)
        score = replace(score, answer=read if isinstance(read, str) else None)
        if self.correct_at is None and score.value is not None and parts.get("acc") in (0.0, 1.0):
            return replace(score, verdict="correct" if parts["acc"] else "wrong")
        return score


plugin = Verl
