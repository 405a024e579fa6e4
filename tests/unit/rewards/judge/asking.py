"""A judge on a scripted server, and what tests ask it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from llmrl.plugins import build
from llmrl.rewards.judge import JudgeReward
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Score, Trajectory
from tests.builders import episodes
from tests.http_server import HttpServer, Reply, completion


def says(content: Any, finish: str = "stop", usage: Mapping[str, Any] | None = None) -> Reply:
    return 200, completion(content, finish, usage)


GOOD = says({"reason": "", "grade": 10})


def group(*texts: str, **info: Any) -> list[Trajectory]:
    problem = Problem(id="p", messages=[{"role": "user", "content": "Say hello."}], answer="Hello!", info=info)
    return episodes(*texts, problem=problem)


def judge(server: HttpServer, **options: Any) -> JudgeReward:
    with GradingPool(workers=1, timeout_s=0.001) as pool:
        made = build(
            "reward", {"name": "judge", "url": f"{server.url}/v1", "pause_s": 0.01, "timeout_s": 5.0, **options}
        )
        lifted = as_group_reward(made, pool)
    assert isinstance(lifted, JudgeReward)
    return lifted


def ask(server: HttpServer, *texts: str, **options: Any) -> list[Score]:
    return asyncio.run(judge(server, **options).score(group(*texts)))


def shown(body: dict[str, Any], name: str = "answer") -> str:
    """The text that a request shows under a name."""
    found = re.search(rf"<<<{name} \w+>>>\n(.*?)\n<<<end \w+>>>", body["messages"][1]["content"], re.DOTALL)
    assert found is not None
    return found[1]


def error(score: Score) -> str:
    assert (score.value, score.verdict) == (None, "error")
    assert score.reason.startswith("problem p: judge: ")
    return score.reason
