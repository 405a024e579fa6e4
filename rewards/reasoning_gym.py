"""Answers to tasks of reasoning-gym, by the verifier of each task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from llmrl.answers.delimited import tagged
from llmrl.answers.thoughts import after_thoughts
from llmrl.datafiles.gym_tasks import open_task
from llmrl.types import Problem, Score

LONGEST = 20_000
"""Characters of an answer; verifiers are not made for more."""
Verify = Callable[[str, Mapping[str, Any]], float]


@dataclass(frozen=True, kw_only=True)
class GymVerifier:
    """1.0 where the task's verifier gives an answer full marks, else 0.0; for problems of data `reasoning_gym`."""

    tags_required: bool = True  # only the last <answer>...</answer> is read; else the whole text where there is none
    partial: bool = False  # the verifier's number below full marks, too: some give nonsense a half

    def __call__(self, problem: Problem, text: str) -> Score:
        """Score an answer.

        Raises:
            ValueError: the problem is not of this data.
            LlmrlError: reasoning-gym is not installed.
        """
        if "task" not in problem.info or "entry" not in problem.info:
            raise ValueError("no `task` and `entry` in the problem's info; expected data: {name: reasoning_gym}")
        said = tagged(text)
        if said is None and not self.tags_required:
            said = after_thoughts(text)
        answer = (said or "").strip()
        if not answer or len(answer) > LONGEST:
            return Score(0.0, "unparsable", reason="no answer in tags" if not answer else f"above {LONGEST} characters")
        verify = _verifier(str(problem.info["task"]), json.dumps(problem.info.get("config", {}), sort_keys=True))
        try:
            value = float(verify(answer, problem.info["entry"]))
        except Exception as error:  # a fault of the verifier, which says nothing about the answer
            why = f"problem {problem.id}: the verifier of {problem.info['task']} raises {type(error).__name__}: {error}"
            return Score(None, "error", reason=why[:500], answer=answer)
        right = value >= 1.0
        reason = f"the verifier of {problem.info['task']} gives {value:g}"
        return Score(
            value if right or self.partial else 0.0, "correct" if right else "wrong", reason=reason, answer=answer
        )


@cache
def _verifier(task: str, config: str) -> Verify:
    verify: Verify = open_task(task, 1, 0, json.loads(config)).score_answer
    return verify


plugin = GymVerifier
