"""Tasks of verifiers from 0.2 on as a reward; with the package alone, of which llmrl has no need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmrl import plugins
from llmrl.errors import RecipeError
from llmrl.rewards.verifiers import state
from llmrl.scoring.foreign import Named
from llmrl.scoring.verifiers_tasks import TaskRunner
from llmrl.types import Problem, Score
from tests import builders

vf: Any = pytest.importorskip("verifiers.v1", reason="the package verifiers, 0.2 or later")


class Data(vf.TaskData):  # type: ignore[misc]
    answer: str
    unit: str = "m"


class Length(vf.Task[Data, vf.State]):  # type: ignore[misc]
    """Asynchronous rewards with weights, one of which gives several values, and a metric."""

    @vf.reward(weight=2.0)  # type: ignore[untyped-decorator]
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.split()[0] == self.data.answer)

    @vf.reward(weight=0.5)  # type: ignore[untyped-decorator]
    async def form(self, task: Any, trace: vf.Trace) -> dict[str, float]:
        asked = [message.content for message in trace.messages if message.role == "user"]
        return {"unit": float(task.unit in trace.last_reply), "asked": float(len(asked))}

    @vf.reward(weight=0.25)  # type: ignore[untyped-decorator]
    async def turns(self, trace: vf.Trace, runtime: Any = None) -> float:
        return float(trace.num_turns)

    @vf.metric  # type: ignore[untyped-decorator]
    async def cut(self, trace: vf.Trace) -> float:
        return float(trace.is_truncated)


class Broken(vf.Task[Data, vf.State]):  # type: ignore[misc]
    @vf.reward  # type: ignore[untyped-decorator]
    async def odd(self, trace: vf.Trace) -> float:
        raise KeyError("gone")


class Endless(vf.Task[Data, vf.State]):  # type: ignore[misc]
    @vf.reward  # type: ignore[untyped-decorator]
    async def odd(self, trace: vf.Trace) -> float:
        return float("inf")


class Boxed(vf.Task[Data, vf.State]):  # type: ignore[misc]
    @vf.reward  # type: ignore[untyped-decorator]
    async def ran(self, trace: vf.Trace, runtime: Any) -> float:
        return 1.0


class Unmarked(vf.Task[Data, vf.State]):  # type: ignore[misc]
    pass


def scored(task: str, *turns: Any, info: Mapping[str, Any] | None = None, **facts: Any) -> Score:
    problem = Problem(id="p", messages=[{"role": "user", "content": "How long?"}], answer="7", info=info or {})
    episode = builders.episode(*turns, problem=problem, **facts)
    (score,) = TaskRunner(Named(f"{__name__}:{task}", "rubric"), 2.0)([state(episode)])
    return score


def test_rewards_are_weighed_and_metrics_are_parts() -> None:
    """2 * 1 + 0.5 * (1 + 2) + 0.25 * 2 for the second turn, behind a reply."""
    reply = [{"role": "user", "content": "In what?"}]
    score = scored("Length", builders.turn("7", reply=reply), builders.turn("7 m"))
    assert (score.value, score.verdict) == (4.0, "correct")
    assert score.parts == {"right": 1.0, "unit": 1.0, "asked": 2.0, "turns": 2.0, "cut": 0.0}
    other = scored("Length", "8 ft", info={"unit": "ft", "noise": 1})
    assert (other.value, other.verdict) == (0.5 * 2 + 0.25, "wrong")


def test_an_answer_that_a_limit_cut_off_is_truncated_in_its_trace() -> None:
    turn = builders.turn("7 m", finish="length")
    assert scored("Length", turn, status="max_tokens").parts["cut"] == 1.0


def test_replies_of_tools_are_messages_of_tools() -> None:
    reply = [{"role": "tool", "tool_call_id": "1", "content": "7"}]
    assert scored("Length", builders.turn("ask", reply=reply), builders.turn("7 m")).parts["asked"] == 1.0


@pytest.mark.parametrize(
    ("task", "words"), [("Broken", "Broken raised KeyError: 'gone'"), ("Endless", "Endless raised ValueError")]
)
def test_a_reward_that_fails_gives_no_value(task: str, words: str) -> None:
    score = scored(task, "7")
    assert (score.value, score.verdict) == (None, "error")
    assert words in score.reason


def test_the_reward_takes_classes_of_tasks() -> None:
    plugins.build("reward", {"name": "verifiers", "rubric": f"{__name__}:Length"})
    with pytest.raises(RecipeError, match="its reward ran asks for a runtime"):
        plugins.build("reward", {"name": "verifiers", "rubric": f"{__name__}:Boxed"})
    with pytest.raises(RecipeError, match="no method of it is marked @reward"):
        plugins.build("reward", {"name": "verifiers", "rubric": f"{__name__}:Unmarked"})
