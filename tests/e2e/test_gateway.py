"""An agent that knows nothing but OpenAI's client trains unchanged, in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run

AGENT = Path(__file__).parent / "agent.py"
GAP = "sampling/sampling_logp_difference/mean"


def trained(model: Path, out: Path, engine: dict[str, Any], steps: int) -> tuple[list[Any], list[Any]]:
    """The metrics and the episodes of a run."""
    recipe = parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": {"name": "format", "pattern": "(?s).*[a-zA-Z0-9].*"},
            "algorithm": {"name": "grpo", "scale_rewards": "none"},
            "engine": engine,
            "agent": {"name": "command", "command": ["python", str(AGENT), "{task}"]},
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 1,
                "max_turns": 3,
                "max_completion_length": 2,
                "max_prompt_length": 1024,
                "max_reply_length": 16,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": steps,
                "learning_rate": 1e-3,
                "save_steps": 0,
                "output_dir": str(out),
                "run_name": "agent",
                "report_to": "none",
            },
        }
    )
    with Run(recipe) as run:
        train(run)
    lines = {name: (out / "agent" / name).read_text().splitlines() for name in ("metrics.jsonl", "rollouts.jsonl")}
    metrics, episodes = ([json.loads(line) for line in lines[name]] for name in lines)
    return metrics, episodes


def require_learning(metrics: list[Any], episodes: list[Any], steps: int) -> None:
    """Whole episodes in every step, engine and trainer apart by rounding alone, and at least one step that learns."""
    assert len(metrics) == steps
    assert len(episodes) == 4 * steps
    assert {episode["status"] for episode in episodes} == {"done"}
    assert {len(episode["turns"]) for episode in episodes} == {3}
    gaps = [step[GAP] for step in metrics if GAP in step]  # absent where no row learned
    assert gaps, "some step learned"
    assert max(gaps) < 1e-5, "the trainer computes what the engine recorded"
    assert any(step.get("grad_norm", 0.0) > 0 for step in metrics), "something is learned"
    for step in metrics:
        assert "turns/samples" not in step, "three calls of an agent that keeps its history are one sample"
        assert step["env/calls"] == 3
        assert step["env/drift"] == 0


def test_an_unchanged_agent_trains(tiny_model_dir: Path, tmp_path: Path) -> None:
    metrics, episodes = trained(tiny_model_dir, tmp_path, {"name": "hf"}, 2)
    require_learning(metrics, episodes, 2)


def test_by_the_real_vllm(tiny_model_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    metrics, episodes = trained(tiny_model_dir, tmp_path, {"name": "vllm"}, 2)
    require_learning(metrics, episodes, 2)
