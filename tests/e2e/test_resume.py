"""A run that was killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from safetensors.torch import load_file

RECIPE = """
model: {{policy: {model}{moving}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: numeric}}
{method}
rollout: {{num_generations: 4, prompts_per_step: 4, max_completion_length: 6, max_prompt_length: 32,
           max_error_share: 0.0}}
train: {{max_steps: 12, learning_rate: 1e-3, lr_scheduler_type: cosine, warmup_steps: 2, save_steps: 2, seed: 5,
         normalize_rewards: true,
         output_dir: {out}, report_to: none}}
"""


METHODS = {
    "grpo": "algorithm: {name: grpo, beta: 0.01, minibatches: 2}",
    # a second model, a reference that moves, a coefficient and a warm-up that adapt: all of it must come back
    "ppo": """
algorithm: {name: ppo, kl_coef: 0.05, kl_target: 0.01, kl_horizon: 50, minibatches: 2, critic_warmup: 2}
critic: {head: {name: hl_gauss}, learning_rate: 1e-3}""",
    "oreal": """
algorithm: {name: oreal, critic_only_steps: 2, beta: 0.01}
critic: {zero_init: false, learning_rate: 1e-3}""",
    "async": """
algorithm: {name: grpo, minibatches: 2}
source: {name: asynchronous, max_staleness: 1}
engine: {name: hf}""",
    "async restarts": """
algorithm: {name: grpo, minibatches: 2}
source: {name: restarts, share: 0.6, decay_steps: 20, max_staleness: 1}
engine: {name: hf}""",
    "offline": """
algorithm: {name: bc, weights: filtered, minibatches: 2}
source: {name: offline, path: ROWS, shuffle_window: 7, max_bad_rows: 1}""",
    "ilql": """
algorithm: {name: ilql, head_width: 1, policy: awac, target_tau: 0.3, minibatches: 2}
source: {name: offline, path: ROWS, shuffle_window: 7, max_bad_rows: 1}
critic: {zero_init: false, learning_rate: 1e-3}""",
    "ilql, whole copies": """
algorithm: {name: ilql, head_width: 1, policy: awac, target: model, target_tau: 0.3, minibatches: 2}
source: {name: offline, path: ROWS, shuffle_window: 7, max_bad_rows: 1}
critic: {zero_init: false, learning_rate: 1e-3}""",
}
METHODS["own parameters"] = """
algorithm: {name: grpo, beta: 0.01, minibatches: 2}
env: {name: perturbation, reward: numeric, allowed: '(?s).*', request: '{prompt}'}
engine: {name: hf}"""
OVERRIDES = {
    "own parameters": [
        "rollout.max_turns=2",
        "rollout.overlong_turns=answer",
        "rollout.opponents={writer: {learns: true, learning_rate: 2e-3}}",
    ]
}
MOVING = ", sync_ref_model: true, ref_model_mixup_alpha: 0.1, ref_model_sync_steps: 1"
CASES = [
    pytest.param("grpo", None, marks=pytest.mark.slow, id="one process"),
    pytest.param("ppo", "zero2", id="PPO, two processes, ZeRO 2"),
    pytest.param("offline", None, id="stored answers, one process"),
    pytest.param("offline", "zero2", marks=pytest.mark.slow, id="stored answers, two processes, ZeRO 2"),
    pytest.param("ilql", "zero2", marks=pytest.mark.slow, id="token critics with copies, two processes, ZeRO 2"),
    pytest.param("ilql", "zero3", marks=pytest.mark.slow, id="token critics with copies, two processes, ZeRO 3"),
    pytest.param("ilql, whole copies", "zero2", marks=pytest.mark.slow, id="copies of whole critics, ZeRO 2"),
    pytest.param("ilql, whole copies", "zero3", marks=pytest.mark.slow, id="copies of whole critics, ZeRO 3"),
    pytest.param("own parameters", None, marks=pytest.mark.slow, id="two policies, one process"),
    pytest.param("own parameters", "zero2", marks=pytest.mark.slow, id="two policies, two processes, ZeRO 2"),
    pytest.param("ppo", None, marks=pytest.mark.slow, id="PPO, one process"),
    pytest.param("ppo", "zero3", marks=pytest.mark.slow, id="PPO, two processes, ZeRO 3"),
    pytest.param("oreal", "zero2", marks=pytest.mark.slow, id="OREAL, two processes, ZeRO 2"),
    pytest.param("oreal", "zero3", marks=pytest.mark.slow, id="OREAL, two processes, ZeRO 3"),
    pytest.param("async", "zero2", marks=pytest.mark.slow, id="asynchronous, two processes, ZeRO 2"),
    pytest.param("async restarts", "zero2", marks=pytest.mark.slow, id="asynchronous restarts, two processes, ZeRO 2"),
    pytest.param("async", "zero3", marks=pytest.mark.slow, id="asynchronous, two processes, ZeRO 3"),
]


def steps(folder: Path) -> list[dict[str, float]]:
    """The metrics of each step, without what only a clock decides."""
    timed = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds", "agents/writer/sync/sec")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(timed)} for line in lines]


@pytest.mark.parametrize(("method", "launch"), CASES)
def test_killed_and_resumed_equals_uninterrupted(
    method: str, launch: str | None, tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    recipe, stored = tmp_path / "run.yaml", tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{i}+1=", "completion": str(i + 1), "reward": i % 3} for i in range(17)]
    stored.write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")

    def write(out: Path) -> None:
        moving = MOVING if method == "ppo" else ""
        recipe.write_text(
            RECIPE.format(
                model=tiny_model_dir, moving=moving, method=METHODS[method].replace("ROWS", str(stored)), out=out
            )
        )

    overrides = OVERRIDES.get(method, ())
    write(tmp_path / "whole")
    llmrl("train", str(recipe), "--quiet", *overrides, launch=launch).wait()
    whole = tmp_path / "whole" / "run"

    write(tmp_path / "killed")
    killed = tmp_path / "killed" / "run"
    moment = Random(f"{method}/{launch}").randrange(3, 11)  # another of each case, the same each time
    print(f"killed after {moment} steps")
    victim = llmrl("train", str(recipe), "--quiet", *overrides, launch=launch)
    log = killed / "metrics.jsonl"
    victim.wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= moment)
    victim.kill()
    assert not (killed / "final").exists()
    llmrl("train", str(recipe), "--quiet", "--resume", *overrides, launch=launch).wait()

    assert steps(killed) == steps(whole)
    start = load_file(tiny_model_dir / "model.safetensors")
    for model in ("model.safetensors", *(["writer/model.safetensors"] if method == "own parameters" else [])):
        expected, found = (load_file(folder / "final" / model) for folder in (whole, killed))
        assert expected.keys() == found.keys()
        assert all((expected[name] == found[name]).all() for name in expected)
        assert any((expected[name] != start[name]).any() for name in start if name in expected), "nothing was learned"
