"""The reward server's answers, without a socket: to groups, to too many of them, and to what makes no sense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from llmrl import __version__
from llmrl.errors import RecipeError, RewardError
from llmrl.scoring import serialization
from llmrl.scoring.trl_functions import TrainerState
from llmrl.serve.reward import reward_of
from llmrl.serve.scoring import Scoring, ServerLimits, app
from llmrl.types import Score, Trajectory

PROBLEM = {"id": "1", "messages": [{"role": "user", "content": "7+5="}], "answer": "12"}


@dataclass
class Fake:
    """Scores by a function, once `open` is set; remembers groups and where training stood."""

    state: TrainerState
    score_of: Callable[[str], float] = float
    open: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[tuple[list[str], int]] = field(default_factory=list)
    busy: int = 0
    most: int = 0

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        self.busy += 1
        self.most = max(self.most, self.busy)
        step = self.state.global_step
        try:
            await self.open.wait()
            assert self.state.global_step == step, "training moved on in its midst"
            self.seen.append(([one.text for one in group], step))
            return [Score(self.score_of(one.text)) for one in group]
        finally:
            self.busy -= 1

    def latencies(self) -> dict[str, list[float]]:
        return {}


@asynccontextmanager
async def served(
    open_: bool = True, api_key: str | None = None, **limits: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Fake, Scoring]]:
    state = TrainerState()
    fake = Fake(state)
    scoring = Scoring(fake, state, ServerLimits(**limits))
    if open_:
        fake.open.set()
    run = asyncio.create_task(scoring.run())
    transport = httpx.ASGITransport(app=app(scoring, "fake", api_key))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client, fake, scoring
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


def ask(client: httpx.AsyncClient, *texts: str, step: int = 0) -> Awaitable[httpx.Response]:
    body = {"problem": PROBLEM, "texts": texts, "trainer_state": {"global_step": step}}
    return client.post("/score", json=body)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


async def until(seen: Callable[[], bool]) -> None:
    while not seen():
        await asyncio.sleep(0.001)


def error(reply: httpx.Response) -> tuple[int, str]:
    body = reply.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message"}
    return reply.status_code, body["error"]["type"]


def test_a_group_is_scored_in_order() -> None:
    async def test() -> None:
        async with served() as (client, fake, _):
            reply = await ask(client, "3", "1", "2")
            assert [score.value for score in serialization.scores_from_json(reply.content, 3)] == [3.0, 1.0, 2.0]
            assert fake.seen == [(["3", "1", "2"], 0)]
            assert (await ask(client)).json() == {"scores": []}

    run(test)


def test_so_many_groups_at_a_time_so_many_wait_and_the_rest_come_back() -> None:
    async def test() -> None:
        async with served(open_=False, batch=2, max_waiting=3) as (client, fake, scoring):
            waiting = []
            for i in range(5):
                waiting.append(asyncio.ensure_future(ask(client, str(i))))
                await until(lambda count=i + 1: scoring.waiting + len(scoring.running) == count)  # type: ignore[misc]
            health = (await client.get("/health")).json()
            assert (health["scoring"], health["waiting"], health["version"]) == (2, 3, __version__)
            assert (await client.get("/health")).json()["status"] == "full"
            sent_away = await ask(client, "9")
            assert error(sent_away) == (503, "full")
            assert int(sent_away.headers["Retry-After"]) >= 1
            fake.open.set()
            assert {reply.status_code for reply in await asyncio.gather(*waiting)} == {200}
            assert fake.most == 2
            health = (await client.get("/health")).json()
            assert (health["status"], health["waiting"], health["scoring"]) == ("ready", 0, 0)

    run(test)


def test_groups_of_another_place_in_training_do_not_mix() -> None:
    async def test() -> None:
        async with served(open_=False) as (client, fake, scoring):
            asked = []
            for i, step in enumerate([4, 4, 5, 4]):
                asked.append(asyncio.ensure_future(ask(client, str(i), step=step)))
                await until(lambda count=i + 1: scoring.waiting + len(scoring.running) == count)  # type: ignore[misc]
            await until(lambda: fake.busy == 2)
            fake.open.set()
            await asyncio.gather(*asked)
            assert sorted(fake.seen) == [(["0"], 4), (["1"], 4), (["2"], 5), (["3"], 4)]

    run(test)


def test_what_takes_too_long_is_cancelled_and_said() -> None:
    async def test() -> None:
        async with served(open_=False, batch=1, request_timeout_s=1.0) as (client, fake, _):
            first, second = await asyncio.gather(ask(client, "1"), ask(client, "2"))
            assert error(first) == error(second) == (504, "timeout")
            await until(lambda: fake.busy == 0)
            fake.open.set()
            assert (await ask(client, "3")).status_code == 200
            assert fake.seen == [(["3"], 0)], "nobody waits for the second any more"

    run(test)


def test_what_a_reward_raises_is_said_and_the_server_lives_on(capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with served() as (client, fake, _):
            assert error(await ask(client, "no number")) == (500, "internal")

            def refuse(text: str) -> float:
                raise RewardError("by_source has no such source")

            fake.score_of = refuse
            refused = await ask(client, "1")
            assert error(refused) == (422, "RewardError")
            assert refused.json()["error"]["message"] == "by_source has no such source"
            fake.score_of = lambda text: float("nan")
            (score,) = serialization.scores_from_json((await ask(client, "1")).content, 1)
            assert (score.value, score.verdict, score.reason) == (None, "error", "the reward returned value nan")

    run(test)
    assert "ValueError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", (400, "bad_request")),
        (b'{"problem": {}, "texts": []}', (400, "bad_request")),
        (b'{"texts": ["1"]}', (400, "bad_request")),
        (b" " * (1 << 20) + b"{}", (413, "too_large")),
    ],
)
def test_a_bad_request_is_answered_by_an_error(content: bytes, expected: tuple[int, str]) -> None:
    async def test() -> None:
        async with served(max_body_mb=1) as (client, _, _):
            assert error(await client.post("/score", content=content)) == expected

    run(test)


def test_other_routes_are_none() -> None:
    async def test() -> None:
        async with served() as (client, _, _):
            assert error(await client.get("/score")) == (405, "no_such_route")
            assert error(await client.get("/")) == (404, "no_such_route")

    run(test)


def test_without_the_key_nothing_is_scored() -> None:
    async def test() -> None:
        async with served(api_key="secret") as (client, fake, _):
            assert error(await ask(client, "1")) == (401, "unauthorized")
            client.headers["Authorization"] = "Bearer another"
            assert error(await ask(client, "1")) == (401, "unauthorized")
            assert (await client.get("/health")).status_code == 200
            assert not fake.seen

    run(test)


def test_a_reward_by_name_by_text_and_by_recipe(tmp_path: Any) -> None:
    assert reward_of("numeric") == {"name": "numeric"}
    assert reward_of("{name: numeric, tolerance: 0.1}") == {"name": "numeric", "tolerance": 0.1}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {policy: x}\nreward: {name: mix, parts: {numeric: 1.0}}\n")
    assert reward_of(str(recipe)) == {"name": "mix", "parts": {"numeric": 1.0}}
    for bad in ("{tolerance: 1}", "{", str(tmp_path / "none.yaml")):
        with pytest.raises(RecipeError, match=r"none\.yaml: cannot be read|expected a reward's name|not YAML"):
            reward_of(bad)
    recipe.write_text(json.dumps({"model": {}}))
    with pytest.raises(RecipeError, match=r"mine\.yaml: found None; expected"):
        reward_of(str(recipe))


@pytest.mark.parametrize("limits", [{"batch": 0}, {"request_timeout_s": 0.0}, {"grace_s": -1.0}])
def test_limits_that_cannot_be(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ServerLimits(**limits)
