"""A reward written for OpenRLHF: `reward_func(queries, prompts, labels)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from llmrl.scoring.foreign import ByAnswer, judged, numbers, plain, returned
from llmrl.scoring.transcript import before_last, opening
from llmrl.types import Message, Problem, Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class OpenRLHF(ByAnswer):
    """Rewards that a function returns for each answer: a tensor or a list, or a dict that has one as `rewards`.

    It is called with lists of one, as OpenRLHF calls it: `queries` holds the prompt and the answer, `prompts` the
    prompt alone, so that `query[len(prompt):]` is the answer, and `labels` the problem's answer. It may be async. The
    numbers of a dict's `scores` and `extra_logs` are parts; `correct_at` is about the score where there is one. None
    abstains; anything else is an error.

    Raises:
        RecipeError: the function cannot be imported.
    """

    chat: Literal["plain", "chatml"] = "plain"  # how messages are written out; chatml is Qwen's form

    def arguments(self, trajectory: Trajectory) -> dict[str, Any]:
        end = "<|im_end|>" if self.chat == "chatml" and trajectory.turns and not trajectory.truncated else ""
        return {
            "queries": [written(before_last(trajectory), self.chat) + trajectory.text + end],
            "prompts": [written(opening(trajectory), self.chat)],
            "labels": [_label(trajectory.problem)],
        }

    def ask(self, arguments: dict[str, Any]) -> Any:
        return returned(self.named.function, *arguments.values())  # by place, as there: names differ

    def read(self, result: Any) -> Score:
        if not isinstance(result, Mapping):
            return judged(_only(result, "rewards"), self.correct_at, {})
        if "rewards" not in result:
            raise ValueError(
                f"returned a dict of {', '.join(map(str, result)) or 'nothing'}; expected one with rewards"
            )
        logs, scores = result.get("extra_logs") or {}, result.get("scores")
        if not isinstance(logs, Mapping):
            raise ValueError(f"returned extra_logs of {type(logs).__name__}; expected a dict")
        reward = _only(result["rewards"], "rewards")
        if scores is None:
            return judged(reward, self.correct_at, numbers(logs))
        score = judged(_only(scores, "scores"), self.correct_at, {})
        return replace(judged(reward, None, numbers(logs) | {"scores": score.value}), verdict=score.verdict)


def _label(problem: Problem) -> Any:
    """The answer, of the type that it has in the data."""
    columns = [problem.info[name] for name in ("label", "answer") if name in problem.info]
    return next((value for value in columns if str(value) == problem.answer), problem.answer)


def written(messages: Sequence[Message], chat: str) -> str:
    """Write a conversation as text that an answer may follow."""
    if chat == "plain":
        return "".join(f"{message['content']}\n" for message in messages)
    told = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return f"{told}<|im_start|>assistant\n"


def _only(values: Any, what: str) -> Any:
    """Take the single value for the single answer."""
    values = plain(values)
    if not isinstance(values, list | tuple):
        return values
    if len(values) != 1:
        raise ValueError(f"returned {len(values)} {what} for 1 query")
    return values[0]


plugin = OpenRLHF
