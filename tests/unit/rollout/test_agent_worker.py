"""Programs that play episodes: each in a process of its own, with OpenAI's client or plain HTTP, scored as ever."""

from __future__ import annotations

import asyncio
import json
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmrl.agents.command import Command
from llmrl.errors import RecipeError
from llmrl.gateway.server import Gateway
from llmrl.protocols import Agent
from llmrl.recipe import RolloutOptions
from llmrl.rollout.agent_worker import AgentWorker
from llmrl.rollout.samples import to_samples
from llmrl.types import Trajectory
from tests.builders import QUESTION, Grader
from tests.unit.gateway.served import CHAT, scripted

# An agent in few words, which starts in 50 ms: what OpenAI's client does is in tests/e2e
ASKS = """
import json, os, sys, urllib.request
def post(path, body):
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    request = urllib.request.Request(path, json.dumps(body).encode(), headers)
    return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request))
def ask(messages):
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    return post(url, {"model": "m", "messages": messages})["choices"][0]["message"]
def reward(value, **more):
    post(os.environ["LLMRL_SESSION_URL"] + "/reward", {"value": value} | more)
"""
TWO = """
messages = [{"role": "user", "content": os.environ["LLMRL_TASK"]}]
messages += [ask(messages), {"role": "user", "content": "Sure?"}]
ask(messages)
"""


def program(body: str, **options: Any) -> Command:
    return Command(command=["python", "-c", ASKS + textwrap.dedent(body)], **options)


def run_group(agent: Agent, replies: Any = ("4", "yes"), generations: int = 1, **options: Any) -> list[Trajectory]:
    settings = {"num_generations": generations, "max_turns": 4, "max_completion_length": 16, "max_prompt_length": 64}
    rollout = RolloutOptions(**settings | options)

    async def play() -> list[Trajectory]:
        engine = scripted(list(replies))
        gateway = Gateway(engine, CHAT)
        worker = AgentWorker(
            engine=engine,
            chat=CHAT,
            env=None,  # type: ignore[arg-type] # an agent brings its own
            reward=Grader(lambda episode: episode.text == "yes"),  # type: ignore[arg-type]
            options=rollout,
            seed=0,
            agent=agent,
            gateway=gateway,
        )
        try:
            return await worker.run_group(QUESTION, "g")
        finally:
            assert not len(gateway.sessions), "every session is closed"
            await gateway.stop()

    return asyncio.run(play())


def test_the_calls_of_a_program_are_the_turns_of_an_episode() -> None:
    (played,) = run_group(program(TWO))
    assert (played.status, played.reason) == ("done", "")
    assert [turn.text for turn in played.turns] == ["4", "yes"]
    assert played.shown == [{"role": "user", "content": "2+2?"}]
    assert played.score is not None
    assert played.score.correct
    (sample,) = to_samples(played)
    assert sample.actions == 2 + 4
    assert played.metrics["calls"] == 2


def test_a_program_sees_the_task_and_not_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("SHARED", "y")
    body = f"""
    seen = [open(os.environ["LLMRL_TASK_FILE"]).read(), sys.stdin.read(), sys.argv[1], dict(os.environ)]
    open({str(tmp_path / "seen")!r}, "w").write(json.dumps(seen))
    ask([dict(role="user", content="hi")])
    """
    agent = program(body, inherit=["SHARED"], info=["level"], env={"MINE": "z"})
    agent = replace(agent, command=[*agent.command, "{task}"])
    run_group(agent)

    file, stdin, argument, env = json.loads((tmp_path / "seen").read_text())
    task = {"id": "p", "task": "2+2?", "messages": [{"role": "user", "content": "2+2?"}], "info": {}}
    assert json.loads(file) == json.loads(stdin) == task
    assert argument == env["LLMRL_TASK"] == "2+2?"
    assert (env["SHARED"], env["MINE"], "SECRET" in env) == ("y", "z", False)


def test_rewards_by_call_are_rewards_of_turns() -> None:
    (played,) = run_group(program(TWO + "reward(0.5, verdict='correct')"))
    assert [turn.reward for turn in played.turns] == [0.0, 0.5]
    assert played.verdict == "correct"
    assert played.earned == 1.5


@pytest.mark.parametrize(
    ("body", "options", "status", "words"),
    [
        (TWO + "sys.exit('broken heart')", {}, "error", "exit status 1; its last words: broken heart"),
        (TWO + "sys.exit(3)", {"crash": "cut"}, "cut", "exit status 3"),
        (TWO + "os.kill(os.getpid(), 9)", {}, "error", "ended by signal 9"),
        (TWO + "reward(1); sys.exit(1)", {}, "done", "exit status 1"),
        (TWO + "import time; time.sleep(60)", {"timeout_s": 3.0}, "cut", "longer than 3 s (agent.timeout_s)"),
        ("", {}, "error", "without an answered call"),
    ],
)
def test_a_program_that_breaks_keeps_its_finished_turns(
    body: str, options: dict[str, Any], status: str, words: str
) -> None:
    (played,) = run_group(program(body, **options))
    assert played.status == status
    assert words in played.reason
    assert len(played.turns) == (2 if body else 0)
    assert (played.earned is None) == (status == "error"), "nothing is learned from an error"
    assert played.cut_off == (status == "cut")


def test_a_reward_of_one_call_does_not_finish_an_episode() -> None:
    said = """
    messages = [{"role": "user", "content": "hi"}]
    said = post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", {"model": "m", "messages": messages})
    reward(1, call_id=said["id"])
    sys.exit(1)
    """
    (played,) = run_group(program(said))
    assert (played.status, [turn.reward for turn in played.turns], played.earned) == ("error", [1.0], None)


def test_limits_of_an_episode_are_its_status() -> None:
    (played,) = run_group(program(TWO), max_turns=1)
    assert (played.status, len(played.turns)) == ("max_turns", 1), "the program's own failure comes of it"
    (played,) = run_group(program(TWO), max_turns=2, max_prompt_length=2, max_completion_length=6, max_reply_length=0)
    assert (played.status, len(played.turns)) == ("max_tokens", 1)


def test_what_a_program_leaves_behind_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    body = f"""
    import subprocess
    child = subprocess.Popen(["sleep", "60"])
    open({str(file)!r}, "w").write(str(child.pid))
    ask([dict(role="user", content="hi")])
    """
    run_group(program(body))
    pid, until = int(file.read_text()), time.monotonic() + 5
    while time.monotonic() < until and alive(pid):
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_sibling_costs_the_others_nothing(tmp_path: Path) -> None:
    body = (
        TWO
        + f"""
try: os.open({str(tmp_path / "first")!r}, os.O_CREAT | os.O_EXCL)
except FileExistsError: sys.exit(0)
os.kill(os.getpid(), 9)
"""
    )
    played = run_group(program(body), generations=4, max_open_envs=2)
    assert sorted(episode.status for episode in played) == ["done", "done", "done", "error"]
    assert [len(episode.turns) for episode in played] == [2] * 4
    assert len({episode.episode for episode in played}) == 4


def test_a_program_that_is_not_there_stops_the_run() -> None:
    with pytest.raises(RecipeError, match="no-such-program"):
        run_group(Command(command=["no-such-program"]))


def test_a_run_that_stops_ends_its_programs(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    agent = program(f"open({str(file)!r}, 'w').write(str(os.getpid())); import time; time.sleep(60)")

    async def stop() -> None:
        task = asyncio.ensure_future(agent.run(QUESTION, "http://127.0.0.1:9/v1", "k"))
        while not file.exists() or not file.read_text():
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(stop())
    assert not alive(int(file.read_text()))


@pytest.mark.parametrize(
    "options", [{"command": "python agent.py"}, {"command": []}, {"command": ["a"], "timeout_s": 0}]
)
def test_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Command(**options)
