"""The form of a step: what ends it, and how its text tells a plan's step from a solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrl.answers.voting import final_answer
from llmrl.reasoning.tree import TreeNode

Form = Literal["lines", "tagged"]


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
            _, solution, rest = node.text.partition("<solution>")
            answered = bool(solution) and final_answer(rest) is not None
            node.kind = "solution" if solution else "step"
            malformed = steps_in(node.text) + answered != 1 or (bool(solution) and not answered)
            node.terminal = node.terminal or answered
        if malformed:
            node.outcome, node.terminal = "malformed", True
        elif node.kind == "step" and node.depth > max_depth:
            node.outcome, node.terminal = "too_deep", True


def steps_in(text: str) -> int:
    """Count the matches of `<step>(.*?)</step>`, in one pass, also where steps begin and never end."""
    count, at = 0, 0
    while (begin := text.find("<step>", at)) >= 0 and (end := text.find("</step>", begin)) >= 0:
        count, at = count + 1, end + len("</step>")
    return count
