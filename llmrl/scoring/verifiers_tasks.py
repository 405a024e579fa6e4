"""Tasks of verifiers from 0.2 on as a reward: its weighted `@reward` methods, which read a trace of the episode.

    columns of a problem -> TaskData;  messages of an episode -> Trace;  task.score(trace) -> rewards and metrics

Only what needs no box to run in is scored: a method that asks for a `runtime` is refused.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmrl.scoring.foreign import Named, judged
from llmrl.scoring.raised import raised
from llmrl.scoring.trl_functions import finite
from llmrl.types import Score


def is_task(found: Any) -> bool:
    """Tell if it is a class of such tasks."""
    return isinstance(found, type) and all(hasattr(found, name) for name in ("data_type", "hooks", "score"))


def require_rewards(task: Named) -> None:
    """Check that a class has rewards, none of which needs a place to run in.

    Raises:
        ValueError: it has none, or one that does.
    """
    marked = [getattr(task.itself, name) for name in dir(task.itself)]
    rewards = [method for method in marked if callable(method) and getattr(method, "reward", False) is True]
    if not rewards:
        raise ValueError(f"rubric {task.name!r}: no method of it is marked @reward; expected at least one")
    for method in rewards:
        runtime = inspect.signature(method).parameters.get("runtime")
        if runtime is not None and runtime.default is inspect.Parameter.empty:
            raise ValueError(
                f"rubric {task.name!r}: its reward {method.__name__} asks for a runtime, which there is none of here; "
                "give the parameter a default, or judge by another reward"
            )


@dataclass(frozen=True)
class TaskRunner:
    """Rewards of a class of tasks, at work in a worker process."""

    task: Named
    correct_at: float | None

    def warm_up(self) -> None:
        """Import the class and what traces are made of, outside the first item's time."""
        _ = self.task.itself
        importlib.import_module("verifiers.v1")

    def __call__(self, states: list[dict[str, Any]]) -> list[Score]:
        return [asyncio.run(self._score(state)) for state in states]

    async def _score(self, state: Mapping[str, Any]) -> Score:
        cls = self.task.itself
        data = cls.data_type()(**columns(state, cls.data_type().model_fields))
        trace = trace_of(state, cls, data)
        try:
            await cls(data).score(trace)
            parts = {name: None if kept is None else finite(kept.score) for name, kept in trace.rewards.items()}
            parts |= {name: None if value is None else finite(value) for name, value in trace.metrics.items()}
            return judged(finite(trace.reward), self.correct_at, parts)
        except Exception as error:  # somebody else's code
            cause = error.__cause__ or error
            return Score(None, "error", reason=f"{self.task.short} raised {raised(cause)}")


def columns(state: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the task's data: the prompt, the answer, and columns of the problem by name."""
    info = {name: value for name, value in state["info"].items() if name in fields}
    answer = {"answer": state["answer"]} if "answer" in fields else {}
    return {**answer, **info, "prompt": [_message(message) for message in state["prompt"]]}


def trace_of(state: Mapping[str, Any], task: type, data: Any) -> Any:
    """The trace of an episode: its messages as one branch, in which the assistant's behind the prompt are sampled."""
    vf = importlib.import_module("verifiers.v1")
    asked, answered = list(state["prompt"]), list(state["completion"])
    nodes = [
        {
            "parent": number - 1 if number else None,
            "message": _message(message),
            "sampled": number >= len(asked) and message["role"] == "assistant",
        }
        for number, message in enumerate([*asked, *answered])
    ]
    trace = vf.Trace(
        task=vf.TraceTask(type=task.__name__, data=data),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=nodes,
        state=importlib.import_module("verifiers.v1.state").state_cls(task)(),
    )
    trace.ok = True
    trace.stop("max_output_tokens" if state["is_truncated"] else "agent_completed")
    return trace


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in verifiers' form, which wants to know whose call a tool answers."""
    kept = {name: message[name] for name in ("role", "content", "tool_calls", "name") if name in message}
    return {"tool_call_id": str(message.get("tool_call_id", "")), **kept} if message["role"] == "tool" else kept
