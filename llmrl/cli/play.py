"""The command `llmrl play`: a person takes the policy's place in an environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any

import typer

from llmrl.protocols import Env
from llmrl.types import Observation


def play(
    env: Annotated[str, typer.Argument(help="An environment, or {name: ..., option: ...}.")],
    data: Annotated[str | None, typer.Option(help="Its problems; by default the data of its name.")] = None,
    problem: Annotated[int, typer.Option(help="Which of them, from 0.")] = 0,
) -> None:
    """Play an episode of an environment in the terminal; ctrl-D gives up."""
    from llmrl.aio import wait
    from llmrl.errors import DataError
    from llmrl.plugins import build
    from llmrl.recipe import yaml_text

    spec: Any = yaml_text.parse(env, "env")
    problems = build("data", yaml_text.parse(data, "--data") if data else {"name": _name(spec)}, "--data").problems()
    chosen = next(islice(problems, problem, None), None)
    if chosen is None:
        raise DataError(f"--problem {problem}: the data has fewer problems; expected a number from 0")
    wait(by_hand(build("env", spec).make(chosen), input, print))


async def by_hand(env: Env, ask: Callable[[str], str], show: Callable[[str], None]) -> float:
    """Play until the environment or the end of the input ends the episode; return the sum of the rewards.

    Args:
        env: the episode.
        ask: gives an answer; EOFError gives up.
        show: takes what the environment says.
    """
    total = 0.0
    try:
        seen = await env.reset()
        _show(seen, show)
        while not seen.done:
            try:
                answer = await asyncio.to_thread(ask, "> ")
            except EOFError:
                show("given up")
                break
            seen = await env.step({"role": "assistant", "content": answer})
            total += seen.reward
            _show(seen, show)
    finally:
        await env.close()
    show(f"return {total:g}")
    return total


def _show(seen: Observation, show: Callable[[str], None]) -> None:
    for message in seen.messages:
        show(f"{message.get('role')}: {message.get('content')}")
    if seen.reward:
        show(f"reward {seen.reward:+g}")
    if seen.done:
        show(("cut off" if seen.cut else "done") + (f", {seen.verdict}" if seen.verdict else ""))


def _name(spec: Any) -> Any:
    return spec if isinstance(spec, str) else spec.get("name")
