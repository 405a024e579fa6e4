"""The same run alone, under DDP and under ZeRO 2 and 3 on two processes: the same rollouts, the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.critics import write_critic

RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: format, pattern: '.*[0-4].*'}}
{method}
rollout: {{num_generations: 4, prompts_per_step: 5, max_completion_length: 6, max_prompt_length: 64}}
train: {{max_steps: 2, learning_rate: 1e-3, tokens_per_device: 40, output_dir: {out}, report_to: none, save_steps: 0}}
"""


METHODS = {
    "grpo": "algorithm: {name: grpo, beta: 0.1, loss_type: grpo}",
    "ppo": """
algorithm: {name: ppo, kl_coef: 0.1, minibatches: 2}
critic: {head: {name: hl_gauss}, zero_init: false, learning_rate: 1e-3}""",
    "oreal": """
algorithm: {name: oreal, critic_only_steps: 1, beta: 0.1}
critic: {zero_init: false, learning_rate: 1e-3}""",
    "curriculum": """
algorithm: {name: grpo}
source: {name: online, curriculum: {name: alp_gmm, fit_every: 4, max_components: 2}}""",
    "bc": """
algorithm: {name: bc, weights: reward}
source: {name: offline, path: ROWS}""",
    "ilql": """
algorithm: {name: ilql, head_width: 1, policy: awac, value_loss: gumbel, target_tau: 0.3, minibatches: 2}
critic: {zero_init: false, learning_rate: 1e-3}
source: {name: offline, path: ROWS}""",
    "ilql, whole copies": """
algorithm: {name: ilql, head_width: 1, policy: awac, target: model, target_tau: 0.3, minibatches: 2}
critic: {zero_init: false, learning_rate: 1e-3}
source: {name: offline, path: ROWS}""",
    "bcoder": """
algorithm: {name: bcoder, max_reward: 2.0, ground_truth: passed}
critic: {learning_rate: 1e-3, model: CRITIC}
source: {name: offline, path: ROWS}""",
    "a_lol": """
algorithm: {name: a_lol, baseline: attention, max_reward: 2.0, priority: good_random}
critic: {zero_init: false, learning_rate: 1e-3}
source: {name: offline, path: ROWS}""",
}
METHODS["own parameters"] = """
algorithm: {name: grpo, beta: 0.1}
env: {name: perturbation, reward: numeric, allowed: '(?s).*', request: '{prompt}'}"""
OVERRIDES = {
    "own parameters": [
        "rollout.max_turns=2",
        "rollout.overlong_turns=answer",
        "rollout.opponents={writer: {learns: true}}",
        "engine.name=hf",
    ]
}
ROWS = [{"prompt": f"{i}+1=", "completion": "x" * (i % 5) + str(i), "reward": i % 3} for i in range(17)]
LAUNCHES = [
    pytest.param("bc", "zero2", marks=pytest.mark.slow),  # ilql and ppo cover the parts
    pytest.param("bc", "zero3", marks=pytest.mark.slow),
    pytest.param("bc", "ddp", marks=pytest.mark.slow),
    ("ilql", "zero2"),
    pytest.param("ilql", "ddp", marks=pytest.mark.slow),
    pytest.param("ilql", "zero3", marks=pytest.mark.slow),
    pytest.param("ilql, whole copies", "ddp", marks=pytest.mark.slow),
    pytest.param("ilql, whole copies", "zero2", marks=pytest.mark.slow),
    pytest.param("ilql, whole copies", "zero3", marks=pytest.mark.slow),
    pytest.param("bcoder", "zero2", marks=pytest.mark.slow),
    pytest.param("bcoder", "zero3", marks=pytest.mark.slow),
    pytest.param("a_lol", "ddp", marks=pytest.mark.slow),
    pytest.param("a_lol", "zero3", marks=pytest.mark.slow),
    ("grpo", "ddp"),
    ("own parameters", "ddp"),
    pytest.param("own parameters", "zero2", marks=pytest.mark.slow),
    pytest.param("own parameters", "zero3", marks=pytest.mark.slow),
    pytest.param("curriculum", "ddp", marks=pytest.mark.slow),
    pytest.param("grpo", "zero2", marks=pytest.mark.slow),
    pytest.param("grpo", "zero3", marks=pytest.mark.slow),
    ("ppo", "zero3"),
    pytest.param("oreal", "zero2", marks=pytest.mark.slow),
    pytest.param("ppo", "zero2", marks=pytest.mark.slow),
    pytest.param("oreal", "zero3", marks=pytest.mark.slow),
]

CAPPED = {"name": "capped", "high": 2.0, "width": 0}
"""Head of the V that the policy's stage of `bcoder` starts from: the one that its first stage trains, by max_reward."""

Made = tuple[dict[str, Tensor], list[dict[str, float]]]
"""The weights of a run, and the metrics of its steps."""


def run(start: Callable[..., Any], folder: Path, models: Sequence[Path], method: str, launch: str | None) -> Made:
    """`models` are a policy and a critic with a capped head."""
    model, critic = models
    recipe, stored = folder / "run.yaml", folder / "rows.jsonl"
    stored.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    sections = METHODS[method].replace("ROWS", str(stored)).replace("CRITIC", str(critic))
    recipe.write_text(RECIPE.format(model=model, out=folder / (launch or "alone"), method=sections))
    start("train", str(recipe), "--quiet", *OVERRIDES.get(method, ()), launch=launch).wait()
    made = folder / (launch or "alone") / "run"
    lines = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    weights = load_file(made / "final" / "model.safetensors")
    others = {name: trained(made / "final" / name) for name in ("critic", "writer")}
    return weights | {f"{name}/{key}": weight for name in others for key, weight in others[name].items()}, lines


def trained(folder: Path) -> dict[str, Tensor]:
    """Weights of another model that was trained, and of its heads; none where there is no such folder."""
    files = sorted(folder.glob("*.safetensors"))
    return {f"{file.stem}/{name}": weight for file in files for name, weight in load_file(file).items()}


@pytest.fixture(scope="module")
def capped_critic_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A critic as the first stage of `bcoder` leaves it."""
    return write_critic(tmp_path_factory.mktemp("capped"), tiny_model_dir, CAPPED)


@pytest.fixture(scope="module")
def alone(
    tiny_model_dir: Path,
    capped_critic_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
    llmrl_module: Callable[..., Any],
) -> Callable[[str], Made]:
    """Results of a method's run in a single process."""
    models = tiny_model_dir, capped_critic_dir
    return cache(lambda method: run(llmrl_module, tmp_path_factory.mktemp("alone"), models, method, None))


@pytest.mark.parametrize(("method", "launch"), LAUNCHES)
def test_two_processes_learn_what_one_learns(
    method: str,
    launch: str,
    alone: Callable[[str], Made],
    tiny_model_dir: Path,
    capped_critic_dir: Path,
    tmp_path: Path,
    llmrl: Callable[..., Any],
) -> None:
    weights, lines = run(llmrl, tmp_path, (tiny_model_dir, capped_critic_dir), method, launch)
    expected, expected_lines = alone(method)
    for line, other in zip(lines, expected_lines, strict=True):
        for name in ("reward", "completions/mean_length", "num_tokens"):
            assert line[name] == other[name], name
        for name in {"loss", "grad_norm", "kl", "critic/loss", "critic/grad_norm"} & other.keys():
            assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name
    start = load_file(tiny_model_dir / "model.safetensors")
    gaps = {name: float((weights[name] - expected[name]).abs().max()) for name in expected}
    # AdamW moves a weight by its learning rate even where the gradient is all rounding, so compare as a whole
    assert weights.keys() == expected.keys()
    moved = torch.cat([(expected[name] - start[name]).flatten() for name in start])
    differs = torch.cat([(weights[name] - expected[name]).flatten() for name in expected])
    share = float(differs.norm() / moved.norm())
    print(
        f"{method}, {launch}: the weights differ by {share:.2g} of what they learned; at most {max(gaps.values()):.2g}"
    )
    assert share < 1e-4
