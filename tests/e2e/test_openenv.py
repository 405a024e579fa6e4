"""A server of openenv-core, which knows nothing of llmrl, is played: in a process and an environment of its own.

It is no dependency of llmrl: `LLMRL_OPENENV_PYTHON` names an interpreter that has it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrl.aio import wait
from llmrl.envs.openenv import OpenEnvServers
from llmrl.types import Observation, Problem

SERVER = """
import sys, uvicorn
from openenv.core.env_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

class Guess(Action):
    message: str

class Told(Observation):
    hint: str = ""

class Numbers(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True
    state = State(episode_id="e", step_count=0)
    def reset(self, seed=None, **given):
        return Told(hint=f"seed {seed}", done=False, reward=None)
    def step(self, action, timeout_s=None, **given):
        right = action.message == "7"
        return Told(hint="Yes" if right else "No", done=right, reward=float(right))

uvicorn.run(create_app(Numbers, Guess, Told, env_name="numbers"), host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Address of a server that runs."""
    python = os.environ.get("LLMRL_OPENENV_PYTHON")
    if python is None:
        pytest.skip("openenv-core is not installed; LLMRL_OPENENV_PYTHON names an interpreter that has it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    process = subprocess.Popen([python, str(script), str(port)], env={"PATH": os.environ["PATH"]})
    try:
        for _ in range(120):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def test_an_episode_is_played(url: str) -> None:
    async def played(name: str) -> list[Observation]:
        episode = OpenEnvServers(base_url=url).make(Problem(id=name, messages=[]))
        seen = [await episode.reset()]
        seen += [await episode.step({"role": "assistant", "content": answer}) for answer in ("3", "7")]
        await episode.close()
        return seen

    one, again, other = (wait(played(name)) for name in ("p", "p", "q"))
    assert one == again
    assert one[0].messages != other[0].messages, "another problem has another seed"
    assert [json.loads(each.messages[0]["content"])["hint"] for each in one[1:]] == ["No", "Yes"]
    assert [(each.reward, each.done) for each in one[1:]] == [(0.0, False), (1.0, True)]
