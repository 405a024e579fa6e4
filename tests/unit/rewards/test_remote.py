"""The reward that asks a server, and a server on loopback that misbehaves or is away."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from llmrl.engines.server.process import free_ports
from llmrl.errors import RecipeError, RewardError
from llmrl.plugins import build
from llmrl.rewards.remote import RemoteReward
from llmrl.scoring import serialization
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.trajectories import compact
from llmrl.types import Completion, Problem, Score, Trajectory, Turn
from tests.http_server import HttpServer

GIVEN = [Score(0.1 + 0.2, "correct", {"a": 1 / 3, "b": None}, token_rewards=[0.5], reason="r"), Score(None, "error")]
GOOD = 200, json.dumps({"scores": serialization.scores_to_json(GIVEN)}).encode()


@pytest.fixture
def server(server: HttpServer) -> HttpServer:
    server.answer = lambda body: GOOD
    return server


def group() -> list[Trajectory]:
    completion = Completion(token_ids=[7], logprobs=[-0.5], finish="stop", version=2)
    problem = Problem(id="p", messages=[{"role": "user", "content": "?"}])
    turns = [Turn(prompt_ids=[1], completion=completion, text=text, reply=[]) for text in ("x", "y")]
    return [Trajectory(problem=problem, turns=[t], status="done", group="g", episode=i) for i, t in enumerate(turns)]


def remote(url: str, step: int = 0, **options: Any) -> RemoteReward:
    with GradingPool(workers=1, timeout_s=0.001) as pool:  # whose limit does not bind it
        made = build("reward", {"name": "remote", "url": url, "pause_s": 0.01, "timeout_s": 5.0, **options})
        lifted = as_group_reward(made, pool)
        pool.trainer_state.global_step = step
    assert isinstance(lifted, RemoteReward)
    return lifted


def ask(url: str, **options: Any) -> list[Score]:
    return asyncio.run(remote(url, **options).score(group()))


def test_a_group_goes_over_whole_and_its_scores_come_back_whole(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMRL_REWARD_API_KEY", "secret")
    assert ask(server.url + "/", step=3) == GIVEN
    sent = [compact(one) for one in group()]
    assert serialization.request_from_json(server.requests[0].data) == (sent, serialization.Place(global_step=3))
    assert [(request.path, request.key) for request in server.requests] == [("/score", "Bearer secret")]
    assert asyncio.run(remote(server.url).score([])) == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, b"broken", "HTTP 500: broken"),
        (504, b"late", "HTTP 504"),
        (200, b"<html>", "not scores"),
        (200, b'{"scores": [{"value": 1.0}]}', "1 scores for 2 answers"),
        (200, b'{"scores": [{"value": NaN}, {"value": 1.0}]}', r"scores\[0\]: value nan"),
        (200, b'{"scores": [{"value": 1e999}, {"value": 1.0}]}', r"scores\[0\]: value inf"),
        (200, b'{"scores": [{"value": "1"}, {"value": 1.0}]}', "valid number"),
    ],
)
def test_what_is_no_answer_is_asked_again_and_then_no_value(
    server: HttpServer, status: int, body: bytes, words: str
) -> None:
    replies = iter([(status, body), GOOD])
    server.answer = lambda body: next(replies)
    assert ask(server.url, retries=1) == GIVEN
    server.answer = lambda _: (status, body)
    scores = ask(server.url, retries=1)
    assert [score.value for score in scores] == [None, None]
    assert {score.verdict for score in scores} == {"timeout" if status == 504 else "error"}
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(scores[0].reason)
    assert len(server.asked) == 4


def test_a_late_answer_is_a_timeout(server: HttpServer) -> None:
    done = threading.Event()

    def late(body: Any) -> tuple[int, bytes]:
        done.wait(30)
        return GOOD

    server.answer = late
    scores = ask(server.url, timeout_s=1.0, retries=1)
    done.set()
    assert [(score.value, score.verdict) for score in scores] == [(None, "timeout")] * 2
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [0, 429, 502, 503])
def test_a_server_that_is_full_or_falls_over_is_waited_for_beyond_retries(server: HttpServer, status: int) -> None:
    replies = iter([(status, b"")] * 4 + [GOOD])
    server.answer = lambda body: next(replies)
    assert ask(server.url, retries=0) == GIVEN


def test_a_server_that_is_away_is_waited_for() -> None:
    (port,) = free_ports(1)
    late: list[HttpServer] = []
    starting = threading.Timer(0.4, lambda: late.append(HttpServer(port, lambda body: GOOD)))
    starting.start()
    assert ask(f"http://127.0.0.1:{port}", retries=0) == GIVEN
    starting.join()
    late[0].close()


def test_a_last_try_that_patience_cuts_short_is_not_called_late(server: HttpServer) -> None:
    done = threading.Event()

    def answer(body: Any) -> tuple[int, bytes]:
        if len(server.asked) > 1:
            done.wait(5)
        return 503, b""

    server.answer = answer
    with pytest.raises(RewardError, match=r"HTTP 503.*patience_s 1 spent"):
        ask(server.url, timeout_s=1.0, patience_s=1.0)
    done.set()


def test_patience_ends_in_a_stop_or_in_errors() -> None:
    options: dict[str, Any] = {"timeout_s": 0.2, "patience_s": 0.3}
    with pytest.raises(RewardError, match=r"reward remote: .*ConnectError.*patience_s 0\.3 spent.*--resume"):
        ask("http://127.0.0.1:1", **options)
    scores = ask("http://127.0.0.1:1", give_up="error", **options)
    assert [(score.value, score.verdict) for score in scores] == [(None, "error")] * 2
    assert "problem p: remote: http://127.0.0.1:1: ConnectError" in scores[0].reason


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_would_never_work_stops_at_once(server: HttpServer, status: int) -> None:
    server.answer = lambda body: (status, b'{"error": {"message": "no such source"}}')
    with pytest.raises(RewardError, match=rf"HTTP {status}: .*no such source.*check url, \$LLMRL_REWARD_API_KEY"):
        ask(server.url)
    assert len(server.asked) == 1


def test_what_json_does_not_hold_is_not_sent(server: HttpServer) -> None:
    odd = [Trajectory(problem=Problem(id="p", messages=[], info={"x": object()}), turns=[], status="done")]
    with pytest.raises(RewardError, match="reward remote: problem p: cannot be sent"):
        asyncio.run(remote(server.url).score(odd))
    assert not server.asked


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience_s": 1.0}, "not even one try has its time"),
        ({"url": "localhost:1"}, "expected http"),
        ({"concurrency": 0}, "concurrency"),
        ({"retries": -1}, "retries"),
        ({"give_up": "zero"}, "'stop' or 'error'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("reward", {"name": "remote", **options})
