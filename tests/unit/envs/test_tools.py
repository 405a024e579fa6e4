"""Episodes with tools, by the player of every rollout: shipped tools, MCP servers, and adapters."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmrl.engines.server.process import free_ports
from llmrl.plugins import build
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.types import Problem, Trajectory
from tests.builders import Grader, scripted_worker
from tests.unit.gateway.served import CHAT

QUESTION = Problem(id="p", messages=[{"role": "user", "content": "12*34?"}], answer="408", info={"secret": "blue"})
SERVER = '''
import sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("sums")
@server.tool()
def double(x: int) -> int:
    """Double a number."""
    return 2 * x
@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no luck")
if len(sys.argv) > 1:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run()
'''


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def played(env: Any, *texts: str, **options: Any) -> Trajectory:
    """An episode whose policy answers with these texts."""
    settings: dict[str, Any] = {"num_generations": 1, "max_turns": len(texts), "max_completion_length": 400}
    rollout = RolloutOptions(**{**settings, "max_reply_length": 5000, **options})
    worker = scripted_worker(CHAT, list(texts), Grader(lambda _: True), rollout, build("env", env, "env"))
    (trajectory,) = asyncio.run(worker.run_group(QUESTION, "g"))
    assert trajectory.status == "done", trajectory.reason
    assert len(to_samples(trajectory)) == 1
    return trajectory


def replies(trajectory: Trajectory) -> list[str]:
    return [str(message["content"]) for turn in trajectory.turns for message in turn.reply]


def test_calls_are_answered_until_an_answer_calls_nothing() -> None:
    trajectory = played(
        {"name": "tools", "tools": ["calculator"]},
        "Let me see. " + call("calculator", expression="12*34"),
        "<tool_call>{oops}</tool_call>",
        call("calculator", expression="7/2") + call("calculator", expression="1/0"),
        "408",
    )
    first, malformed, *both = replies(trajectory)
    assert first == "408"
    assert malformed.startswith("error: the call is not JSON")
    assert both == ["7/2 = 3.5", "error: ZeroDivisionError: Fraction(1, 0)"]
    assert trajectory.metrics == {"tool_calls": 3.0, "malformed_calls": 1.0}
    assert trajectory.tools[0]["function"]["name"] == "calculator"
    assert trajectory.text == "408"


def test_files_are_searched_and_read_and_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("one\nThe capital of France is Paris.\n")
    (tmp_path / "in" / "b.txt").write_text("France\n")
    (tmp_path / "secret.txt").write_text("France capital secret")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.txt")
    trajectory = played(
        {"name": "tools", "tools": [{"name": "search_files", "folder": str(tmp_path / "in")}]},
        call("search", query="capital France"),
        call("read", path="a.txt", first=2),
        call("read", path="../secret.txt") + call("read", path="link.txt") + call("search", query="nothing"),
        "Paris",
    )
    found, read, *refused = replies(trajectory)
    assert found == "a.txt:2: The capital of France is Paris.\nb.txt:1: France"
    assert read == "2: The capital of France is Paris."
    assert all(text.startswith("error: ValueError: no file") for text in refused[:2])
    assert refused[2] == "no line has any word of 'nothing'"


def test_programs_run_in_the_sandbox() -> None:
    trajectory = played(
        {"name": "tools", "tools": [{"name": "python", "min_level": "subprocess", "timeout_s": 4}]},
        call("python", code="print(12*34)"),
        call("python", code="import sys; print('so'); sys.exit(3)"),
        "408",
    )
    assert replies(trajectory) == ["408", "so\nerror: the program ended with exit status 3"]


def shout(text: str) -> str:
    """Shout.

    Args:
        text: To be shouted.
    """
    return text.upper()


def test_any_function_is_a_tool() -> None:
    spec = {"name": "tools", "tools": [f"{shout.__module__}:shout"], "max_characters": 3}
    assert replies(played(spec, call("shout", text="hello"), "x")) == ["HEL\n[cut: the first 3 of 5 characters]"]


@pytest.fixture
def server(tmp_path: Path) -> Path:
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    file = tmp_path / "server.py"
    file.write_text(SERVER)
    return file


@pytest.fixture
def url(server: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, str(server), str(port)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
            break
        except httpx.TransportError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


def require_mcp_tools(spec: dict[str, Any], **options: Any) -> None:
    trajectory = played({"name": "tools", "tools": [spec]}, call("double", x=21), call("fail"), "42", **options)
    double, fail = replies(trajectory)
    assert double == "42"
    assert fail.startswith("error: ")
    assert {tool["function"]["name"] for tool in trajectory.tools} == {"double", "fail"}


def test_a_started_mcp_server_gives_tools(server: Path) -> None:
    require_mcp_tools({"name": "mcp", "command": [sys.executable, str(server)]})


def test_a_running_mcp_server_gives_tools(url: str) -> None:
    require_mcp_tools({"name": "mcp", "url": url})
    require_mcp_tools({"name": "mcp", "url": url}, env_isolation="thread")


class Vault:
    """An environment as TRL's users write it."""

    def reset(self, secret: str, **kwargs: Any) -> str | None:
        self._secret, self._open = secret, False
        return f" The vault has {len(secret)} letters."

    def unlock(self, word: str) -> str:
        """Try a word.

        Args:
            word: The word to try.
        """
        self._open = word == self._secret
        return "open" if self._open else "closed"

    def get_reward(self) -> float:
        return 1.0 if self._open else 0.0


def test_an_environment_of_trl_plays() -> None:
    env = {"name": "trl", "factory": f"{Vault.__module__}:Vault"}
    trajectory = played(env, call("unlock", word="red"), call("unlock", word="blue"), "done")
    assert replies(trajectory) == ["closed", "open"]
    assert [turn.reward for turn in trajectory.turns] == [0.0, 0.0, 1.0]
    assert trajectory.shown == [{"role": "user", "content": "12*34? The vault has 4 letters."}]
    assert [tool["function"]["name"] for tool in trajectory.tools] == ["unlock"]


class Corridor:
    """An environment as Gymnasium's users write it."""

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.place, self.steps = 0, 0
        return self.place, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place, self.steps = self.place + action, self.steps + 1
        done = self.place >= self.length
        return self.place, float(done), done, self.steps >= 3, {"steps": self.steps, "map": "..."}

    def close(self) -> None:
        pass


def show(place: int) -> str:
    return f"You are at {place}."


def act(text: str) -> int:
    if text not in ("left", "right"):
        raise ValueError(f"{text!r}; expected left or right")
    return 1 if text == "right" else -1


def test_an_environment_of_gymnasium_plays() -> None:
    here = Corridor.__module__
    env: dict[str, Any] = {"name": "gymnasium", "make_env": f"{here}:Corridor", "kwargs": {"length": 2}}
    env |= {"observation": f"{here}:show", "action": f"{here}:act"}
    trajectory = played(env, "right", "jump", "right")
    assert replies(trajectory) == ["You are at 1.", "That is no action: 'jump'; expected left or right"]
    assert [turn.reward for turn in trajectory.turns] == [0.0, 0.0, 1.0]
    assert trajectory.shown is not None
    assert trajectory.shown[-1] == {"role": "user", "content": "You are at 0."}
    assert trajectory.metrics == {"steps": 2.0}
