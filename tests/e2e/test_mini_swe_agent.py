"""mini-swe-agent, a package that knows nothing of llmrl, trains unchanged: in a process and an environment of its own.

It is no dependency of llmrl: `LLMRL_MINI_SWE_AGENT` names its command, such as /tmp/mini/bin/mini, or it is on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrl.agents.command import Command
from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Trajectory
from tests.unit.rollout.test_agent_worker import run_group

CONFIG: dict[str, Any] = {  # its own templates are longer than a tiny model's context
    "agent": {"system_template": "Use bash.", "instance_template": "{{task}}", "mode": "yolo", "cost_limit": 0},
    "model": {"model_class": "litellm", "cost_tracking": "ignore_errors"},
    "environment": {"environment_class": "local"},
}
DONE = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo 4"


@pytest.fixture
def agent(tmp_path: Path) -> dict[str, Any]:
    """Options of the agent `command` that runs it."""
    mini = os.environ.get("LLMRL_MINI_SWE_AGENT") or shutil.which("mini")
    if mini is None:
        pytest.skip("mini-swe-agent is not installed; LLMRL_MINI_SWE_AGENT names its command")
    config = tmp_path / "mini.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    words = [mini, "-t", "{task}", "-y", "--exit-immediately", "-m", "openai/policy", "-c", str(config)]
    return {
        "command": [*words, "-o", str(tmp_path / "trajectory.json")],
        "env": {"MSWEA_CONFIGURED": "true", "HOME": str(tmp_path), "MSWEA_SILENT_STARTUP": "1"},
        "cwd": str(tmp_path),
        "timeout_s": 240,
        "max_open": 2,
    }


def bash(command: str) -> str:
    return f"<tool_call>{json.dumps({'name': 'bash', 'arguments': {'command': command}})}</tool_call>"


def test_its_tool_calls_go_on_from_recorded_tokens(agent: dict[str, Any]) -> None:
    replies = ["Let me see. " + bash("echo $((2+2))"), bash(DONE)]
    played: list[Trajectory] = run_group(
        Command(**agent), replies, max_completion_length=300, max_prompt_length=500, max_reply_length=500
    )
    (trajectory,) = played
    assert trajectory.status == "done", trajectory.reason
    assert [turn.text for turn in trajectory.turns] == replies
    assert trajectory.turns[0].reply[0]["role"] == "tool"
    assert "4" in str(trajectory.turns[0].reply[0]["content"])
    assert trajectory.metrics["drift"] == 0
    assert trajectory.tools[0]["function"]["name"] == "bash"


def test_it_trains(agent: dict[str, Any], tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe = parse(
        {
            "model": {"policy": str(tiny_model_dir)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": {"name": "format", "pattern": "(?s).*[a-zA-Z0-9].*"},
            "algorithm": {"name": "grpo", "scale_rewards": "none"},
            "engine": {"name": "hf"},
            "agent": {"name": "command", **agent},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 1,
                "max_turns": 2,
                "max_completion_length": 2,
                "max_prompt_length": 1024,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": 1,
                "save_steps": 0,
                "output_dir": str(tmp_path),
                "run_name": "a",
                "report_to": "none",
            },
        }
    )
    with Run(recipe) as run:
        train(run)
    episodes = [json.loads(line) for line in (tmp_path / "a" / "rollouts.jsonl").read_text().splitlines()]
    assert [(episode["status"], len(episode["turns"])) for episode in episodes] == [("max_turns", 2)] * 2
    (step,) = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert step["env/calls"] == 2
