"""Environments of other libraries, each written in their style: MultiTurnEnv, OpenEnv's servers and clients."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from websockets.asyncio.server import ServerConnection, serve

from llmrl import plugins
from llmrl.aio import wait
from llmrl.errors import RecipeError
from llmrl.types import Observation, Problem

HERE = __name__
ASKED = Problem(id="n", messages=[{"role": "user", "content": "Guess a number."}], answer="7", info={"most": 3})


class Rubric:
    """Weights and functions that take what they name; one is logged only."""

    def __init__(self) -> None:
        self.weights = [1.0, 0.0]

        async def found(completion: list[Any], answer: str) -> float:
            return float(completion[-1]["content"] == answer)

        def hints(state: dict[str, Any]) -> int:
            return len(state["hints"])

        self.funcs = [found, hints]


class Guessing:
    """A number is guessed with hints, as a MultiTurnEnv of verifiers."""

    max_turns = 3

    def __init__(self, polite: bool = False) -> None:
        self.polite, self.rubric = polite, Rubric()

    async def setup_state(self, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "hints": []}

    async def is_completed(self, messages: list[Any], state: dict[str, Any]) -> bool:
        return bool(messages[-1]["content"] == state["answer"])

    async def env_response(self, messages: list[Any], state: dict[str, Any]) -> list[dict[str, str]]:
        hint = "Larger" if int(messages[-1]["content"]) < int(state["answer"]) else "Smaller"
        state["hints"].append(hint)
        return [{"role": "user", "content": f"{hint}, please." if self.polite else f"{hint}."}]


def load_environment(**options: Any) -> Guessing:
    return Guessing(**options)


def played(env: Any, actions: Sequence[str]) -> list[Observation]:
    async def run() -> list[Observation]:
        episode = env.make(ASKED)
        seen = [await episode.reset()]
        try:
            return seen + [await episode.step({"role": "assistant", "content": action}) for action in actions]
        finally:
            await episode.close()
            await episode.close()

    return wait(run())


def verifiers(**options: Any) -> Any:
    given = {"name": "verifiers", "environment": f"{HERE}:load_environment"} | options
    return plugins.build("env", given)


def test_an_environment_of_verifiers_plays_and_scores() -> None:
    seen = played(verifiers(kwargs={"polite": True}), ["3", "9", "7"])
    assert seen[0].messages == ASKED.messages
    assert [each.messages[0]["content"] for each in seen[1:3]] == ["Larger, please.", "Smaller, please."]
    assert (seen[3].done, seen[3].cut, seen[3].reward) == (True, False, 1.0)
    assert seen[3].metrics == {"found": 1.0, "hints": 2.0}
    late = played(verifiers(), ["3", "9", "6"])[-1]
    assert (late.done, late.cut, late.reward) == (True, True, 0.0)
    assert played(verifiers(scored=False), ["7"])[-1].metrics == {}


class Stopping(Guessing):
    """The same as later releases have it: stop conditions, a trajectory, and what an episode holds is released."""

    released: ClassVar[list[str]] = []

    async def is_completed(self, state: dict[str, Any]) -> bool:  # type: ignore[override]
        """As `Environment.is_completed`, which asks its conditions by name."""
        for name in ("guessed", "max_turns_reached"):
            if getattr(self, name)(state):
                state |= {"is_completed": True, "stop_condition": name}
                state["timing"]["total_ms"] = 1000 * (time.time() - state["timing"]["start_time"])
                prompt, completion = (state["trajectory"][-1][name] for name in ("prompt", "completion"))
                state["completion"] = [*prompt, *completion][len(state["prompt"]) :]
                await self._cleanup(state)
                return True
        return False

    def guessed(self, state: dict[str, Any]) -> bool:
        return bool(state["trajectory"][-1]["completion"][-1]["content"] == state["input"]["answer"])

    def max_turns_reached(self, state: dict[str, Any]) -> bool:
        return len(state["trajectory"]) >= self.max_turns

    async def _cleanup(self, state: dict[str, Any]) -> None:
        self.released.append(str(state.get("stop_condition", "left")))


def test_an_environment_of_later_releases_stops_by_its_conditions() -> None:
    """Their own limit of turns is no end of the task, and what an episode holds is released once, however it ends."""
    Stopping.released.clear()
    env = verifiers(environment=f"{HERE}:Stopping")
    right = played(env, ["3", "7"])
    assert right[1].messages[0]["content"] == "Larger."
    assert (right[2].done, right[2].cut, right[2].reward) == (True, False, 1.0)
    assert right[2].metrics == {"found": 1.0, "hints": 1.0}
    late = played(env, ["3", "9", "6"])[-1]
    assert (late.done, late.cut, late.reward) == (True, True, 0.0)
    assert not played(env, ["3"])[-1].done
    assert Stopping.released == ["guessed", "max_turns_reached", "left"]


class Rubrics:
    """A group, as verifiers makes of an environment's rubric and its own monitors."""

    def __init__(self) -> None:
        self.funcs: list[Any] = []
        self.weights: list[float] = []
        self.rubrics = [Rubric(), Rubric()]


LOADED: list[str] = []


class Grouped(Guessing):
    def __init__(self) -> None:
        super().__init__()
        self.rubric: Any = Rubrics()


def load_grouped(name: str) -> Grouped:
    LOADED.append(name)
    return Grouped()


def test_a_group_of_rubrics_scores_by_all_of_them() -> None:
    """Functions of one name add up in the reward, and have numbers apart."""
    LOADED.clear()
    env = verifiers(environment=f"{HERE}:load_grouped", kwargs={"name": "x"})
    last = played(env, ["7"])[-1]
    assert last.reward == 2.0
    assert last.metrics == {"found": 1.0, "hints": 0.0, "found_2": 1.0, "hints_2": 0.0}
    played(env, ["7"])
    assert pickle.loads(pickle.dumps(env)) == env, "it goes to processes of its own"
    assert LOADED == ["x"], "one instance serves all episodes: loading may take minutes"


def test_something_else_is_no_environment_of_verifiers() -> None:
    with pytest.raises(RecipeError, match="it has no env_response; expected a MultiTurnEnv"):
        verifiers(environment=f"{HERE}:Rubric")


async def number_server(connection: ServerConnection) -> None:
    """A session of OpenEnv's protocol: a number is guessed; the seed is shown, to see it."""
    async for text in connection:
        asked = json.loads(text)
        if asked["type"] == "close":
            return
        data = asked["data"]
        if asked["type"] == "reset":
            told: dict[str, Any] = {
                "observation": {"seed": data["seed"], "easy": data["easy"]},
                "reward": None,
                "done": False,
            }
        elif not data["message"].isdigit():
            error = {"message": "no number", "code": "EXECUTION_ERROR"}
            await connection.send(json.dumps({"type": "error", "data": error}))
            continue
        else:
            right = data["message"] == "7"
            told = {"observation": {"hint": "Yes" if right else "No"}, "reward": float(right), "done": right}
        await connection.send(json.dumps({"type": "observation", "data": told}))


def by_server(actions: Sequence[str], **options: Any) -> list[Observation]:
    async def run() -> list[Observation]:
        async with serve(number_server, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            spec = {"name": "openenv", "base_url": f"http://127.0.0.1:{port}", "reset": {"easy": True}} | options
            episode = plugins.build("env", spec).make(ASKED)
            seen = [await episode.reset()]
            try:
                return seen + [await episode.step({"role": "assistant", "content": action}) for action in actions]
            finally:
                await episode.close()

    return asyncio.run(run())


def shown(observation: dict[str, Any]) -> str:
    return str(observation.get("hint", "Guess."))


def typed(text: str) -> dict[str, str]:
    if not text.isdigit():
        raise ValueError("expected digits")
    return {"message": text}


def test_a_server_of_openenv_plays() -> None:
    first, no, yes = by_server(["3", "7"])
    begun = json.loads(first.messages[-1]["content"])
    assert begun["easy"] is True
    assert begun == json.loads(by_server([])[0].messages[-1]["content"]), "a problem begins alike"
    assert (json.loads(no.messages[0]["content"]), no.reward, no.done) == ({"hint": "No"}, 0.0, False)
    assert (yes.reward, yes.done) == (1.0, True)


def test_functions_of_your_own_translate() -> None:
    seen = by_server(["seven", "7"], observation=f"{HERE}:shown", action=f"{HERE}:typed")
    assert [each.messages[-1]["content"] for each in seen] == ["Guess.", "That is no action: expected digits", "Yes"]


def test_an_error_of_the_server_breaks_the_episode() -> None:
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:\d+: step: no number \(EXECUTION_ERROR\)"):
        by_server(["seven"])


@dataclass
class Result:
    observation: str
    reward: float | None = None
    done: bool = False


class NumberClient:
    """A client class in OpenEnv's form, with typed results."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    async def reset(self, **given: Any) -> Result:
        return Result(f"{self.base_url} {sorted(given)}")

    async def step(self, action: dict[str, str]) -> Result:
        return Result("Yes", 1.0, True)

    async def close(self) -> None:
        pass


def test_a_client_of_openenv_plays() -> None:
    spec = {"name": "openenv", "base_url": "http://nowhere:1", "client": f"{HERE}:NumberClient", "reset": {"easy": 1}}
    first, last = played(plugins.build("env", spec), ["7"])
    assert first.messages[-1]["content"] == "http://nowhere:1 ['easy', 'seed']"
    assert (last.messages[0]["content"], last.reward, last.done) == ("Yes", 1.0, True)


def test_a_seed_of_the_recipe_is_taken() -> None:
    first = by_server([], reset={"easy": True, "seed": 5})[0]
    assert json.loads(first.messages[-1]["content"]) == {"seed": 5, "easy": True}


def test_an_address_is_checked() -> None:
    with pytest.raises(RecipeError, match=r"base_url 'localhost:8000': expected http"):
        plugins.build("env", {"name": "openenv", "base_url": "localhost:8000"})
