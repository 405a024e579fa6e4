"""The form of a step: what ends it, and how its text tells a plan's step from a solution."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llmrl.answers.voting import final_answer
from llmrl.reasoning.tree import TreeNode

Form = Literal["lines", "tagged"]
STEP, SOLUTION = re.compile(r"<step>(.*?)</step>", re.DOTALL), re.compile(r"<solution>(.*)", re.DOTALL)


@dataclass(frozen=True)
class StepLayout:
    """`lines`: a step ends at `step_end`, and the policy ends the answer. `tagged`: `<step>...</step>` each, then a
    `<solution>...</solution>` with a final answer, as plans are written.
    """

    form: Form = "lines"
    step_end: tuple[str, ...] = ("\n",)

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a child."""
        return self.step_end if self.form == "lines" else ("</step>", "</solution>")

    def place(self, node: TreeNode, max_depth: int) -> None:
        """Mark a new child: a step or a solution, and as terminal where it is malformed or too deep.

        A tagged child is malformed where it is neither a step nor a solution with an answer that can be read, or both,
        or several steps; one of lines where it has no text.
        """
        if self.form == "lines":
            node.kind = "solution" if node.terminal else "step"
            malformed = not node.text.strip()
        else:
            steps, solution = STEP.findall(node.text), SOLUTION.search(node.text)
            answered = solution is not None and final_answer(solution[1]) is not None
            node.kind = "solution" if solution else "step"
            malformed = len(steps) + answered != 1 or (solution is not None and not answered)
            node.terminal = node.terminal or answered
        if malformed:
            node.outcome, node.terminal = "malformed", True
        elif node.kind == "step" and node.depth > max_depth:
            node.outcome, node.terminal = "too_deep", True
