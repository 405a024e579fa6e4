"""Our losses and credits beside the public functions of verl's trainer, on random steps.

verl is not among the pinned packages: `make peers` installs it beside them, runs these tests and prints the table of
docs/peers.md. Where it is not installed they are skipped; one that is there and cannot be imported fails them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.ops import kl
from llmrl.ops.gae import returns, whiten
from llmrl.ops.mismatch import Correction, Mode
from tests.integration.peers.steps import BOUND, SEEDS, Algorithm, Step, batch_of, gaps, ours


@pytest.fixture(scope="module")
def verl() -> SimpleNamespace:
    """`core_algos`, `rollout_corr_helper` and `ActorConfig`; skips where verl is not installed."""
    if find_spec("verl") is None:
        pytest.skip("verl is not installed: `make peers` installs it beside .venv and runs these tests")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        algos = import_module("verl.trainer.ppo.core_algos")
        helper = import_module("verl.trainer.ppo.rollout_corr_helper")
        config = import_module("verl.workers.config").ActorConfig
    return SimpleNamespace(algos=algos, helper=helper, config=config)


VERL: dict[str, tuple[dict[str, Any], str, str]] = {
    "GRPO": ({"loss_type": "grpo", "delta": 3.0}, "vanilla", "seq-mean-token-mean"),
    "DAPO, clip higher, dual clip": ({"epsilon_high": 0.28, "delta": 1.5}, "vanilla", "token-mean"),
    "Dr. GRPO": (
        {"loss_type": "dr_grpo", "scale_rewards": "none", "max_completion_length": 20, "delta": 3.0},
        "vanilla",
        "seq-mean-token-sum-norm",
    ),
    "any clip, summed over tokens": ({"loss_average": "sequence_sum", "delta": 3.0}, "vanilla", "seq-mean-token-sum"),
    "GSPO": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05},
        "gspo",
        "seq-mean-token-mean",
    ),
    "GSPO, token variant, token mean": (
        {"importance_sampling_level": "sequence_token", "epsilon": 0.05},
        "gspo",
        "token-mean",
    ),
    "CISPO, two bounds": ({"loss_type": "cispo", "weight_floor": 0.8, "weight_cap": 1.28}, "cispo", "token-mean"),
    "DAPO, corrected for the engine": (
        {"importance_sampling_correction": "token_truncate", "delta": 3.0},
        "vanilla",
        "token-mean",
    ),
}


@pytest.mark.parametrize("method", VERL)
def test_losses_are_those_of_verl(method: str, verl: SimpleNamespace, table: list[Any]) -> None:
    options, name, average = VERL[method]
    bare: dict[str, Any] = {"importance_sampling_correction": "none", "num_iterations": 2}
    algorithm, worst = GRPO(**bare | options), (0.0, 0.0)
    capped = algorithm.loss_type == "cispo"
    config = verl.config(
        strategy="fsdp",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=1 - algorithm.weight_floor if capped else algorithm.epsilon,
        clip_ratio_high=algorithm.weight_cap - 1 if capped else algorithm.high,
        clip_ratio_c=algorithm.delta or 3.0,
        loss_scale_factor=algorithm.max_completion_length,
    )
    config.global_batch_info["loss_scale_factor"] = algorithm.max_completion_length
    for seed in SEEDS:
        step = Step.random(seed)
        new = step.new.clone().requires_grad_()
        weights = None
        if algorithm.importance_sampling_correction != "none":
            gap = step.old - step.sampled
            weights = verl.helper.compute_rollout_correction_weights(gap, step.mask.double(), "token", 2.0)[0]
        loss, _ = verl.algos.get_policy_loss_fn(name)(
            step.old, new, step.credited(algorithm), step.mask.double(), average, config, weights
        )
        found = gaps(ours(algorithm, step), (loss.detach(), torch.autograd.grad(loss, new)[0]))
        worst = max(worst[0], found[0]), max(worst[1], found[1])
    table.append((method, f"verl `compute_policy_loss_{name}`, {average}", *worst))
    assert max(worst) < BOUND


def verl_advantages(verl: SimpleNamespace, name: str, rewards: Tensor, step: Step, **options: Any) -> Tensor:
    index = np.array([row.group for row in step.rows])
    call: dict[str, Any] = {"token_level_rewards": rewards, "response_mask": step.mask.double(), **options}
    if name != "reinforce_plus_plus":
        call["index"] = index
    advantages: Tensor = verl.algos.get_adv_estimator_fn(name)(**call)[0]
    return advantages


@pytest.mark.parametrize(
    ("method", "algorithm", "name", "options"),
    [
        ("GRPO's advantages", GRPO(), "grpo", {"epsilon": 1e-4}),
        ("Dr. GRPO's advantages", GRPO(scale_rewards="none"), "grpo", {"norm_adv_by_std_in_grpo": False}),
        ("RLOO's advantages", RLOO(beta=0.0), "rloo", {}),
        ("RLOO's advantages with k1 in the reward", RLOO(beta=0.1), "rloo", {}),
    ],
)
def test_advantages_are_those_of_verl(
    method: str, algorithm: Algorithm, name: str, options: Mapping[str, Any], verl: SimpleNamespace, table: list[Any]
) -> None:
    worst = 0.0
    for seed in SEEDS:
        step = Step.random(seed)
        rewards = token_rewards(step, algorithm.beta if isinstance(algorithm, RLOO) else 0.0, verl)
        theirs = verl_advantages(verl, name, rewards, step, **options)
        worst = max(worst, float((step.credited(algorithm) - theirs).abs().max()))
    table.append((method, f"verl `{name}` estimator", worst, None))
    assert worst < BOUND


@pytest.mark.parametrize("baseline", ["none", "group"])
def test_reinforce_pp_is_that_of_verl(baseline: Any, verl: SimpleNamespace, table: list[Any]) -> None:
    # verl's variance has Bessel's correction where the paper's has none: ours are larger by sqrt(N / (N - 1)).
    worst, name = 0.0, "reinforce_plus_plus" + ("_baseline" if baseline == "group" else "")
    beta, gamma = (0.0, 1.0) if baseline == "group" else (0.1, 0.9)  # that estimator has neither
    for seed in SEEDS:
        step = Step.random(seed)
        n = float(step.mask.sum())
        options = {} if baseline == "group" else {"config": SimpleNamespace(gamma=gamma)}
        theirs = verl_advantages(verl, name, token_rewards(step, beta, verl), step, **options)
        mine = step.credited(ReinforcePP(baseline=baseline, beta=beta, gamma=gamma))
        worst = max(worst, float((mine * ((n - 1) / n) ** 0.5 - theirs).abs().max()))
    table.append((f"REINFORCE++, baseline {baseline}, less Bessel", f"verl `{name}` estimator", worst, None))
    assert worst < BOUND


def token_rewards(step: Step, beta: float, verl: SimpleNamespace) -> Tensor:
    """verl's: the divergence at each token, the score at the last."""
    scores = torch.zeros_like(step.old)
    for i, row in enumerate(step.rows):
        scores[i, int(step.mask[i].nonzero().max())] = row.reward
    rewards: Tensor = verl.algos.compute_rewards(scores, step.old, step.ref, beta)
    return rewards * step.mask


def test_returns_and_whitening_are_those_of_verl(verl: SimpleNamespace, table: list[Any]) -> None:
    from verl.utils import torch_functional

    worst = [0.0, 0.0]
    for seed in SEEDS:
        step = Step.random(seed)
        earned, masks = step.new.tolist(), [row.action_mask.tolist() for row in step.rows]
        _, theirs = verl.algos.compute_reinforce_plus_plus_outcome_advantage(
            step.new, step.mask.double(), SimpleNamespace(gamma=0.9)
        )
        sums = [returns(e, m, gamma=0.9) for e, m in zip(earned, masks, strict=True)]
        mine = torch.from_numpy(np.stack(sums))
        worst[0] = max(worst[0], float((mine - theirs).abs().max()))
        white = torch.from_numpy(np.stack(list(whiten(earned, masks, bessel=True))))
        peer = torch_functional.masked_whiten(step.new, step.mask.double()) * step.mask
        worst[1] = max(worst[1], float((white - peer).abs().max()))
    table.append(("returns, gamma .9", "verl `reinforce_plus_plus` estimator", worst[0], None))
    table.append(("whitening, with Bessel", "verl `masked_whiten`", worst[1], None))
    assert max(worst) < BOUND


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_divergences_are_those_of_verl(name: str, verl: SimpleNamespace, table: list[Any]) -> None:
    worst = (0.0, 0.0)
    for seed in SEEDS:
        step = Step.random(seed)
        pairs = []
        for estimate in (getattr(kl, name), lambda new, ref: verl.algos.kl_penalty(new, ref, name)):
            new = step.new.clone().requires_grad_()
            numbers = estimate(new, step.ref)
            pairs.append((numbers.detach().abs().max(), torch.autograd.grad(numbers.square().sum(), new)[0]))
        found = gaps(*pairs)
        worst = max(worst[0], found[0]), max(worst[1], found[1])
    table.append((name, "verl `kl_penalty`", *worst))
    assert max(worst) < BOUND


@pytest.mark.parametrize(
    ("mode", "level", "threshold"),
    [
        ("token_truncate", "token", 1.2),
        ("token_mask", "token", "0.8_1.2"),
        ("sequence_truncate", "sequence", 1.2),
        ("sequence_mask", "sequence", "0.2_5.0"),
    ],
)
def test_weights_are_those_of_verl(
    mode: Mode, level: str, threshold: Any, verl: SimpleNamespace, table: list[Any]
) -> None:
    worst, bounds = 0.0, [float(x) for x in str(threshold).split("_")]
    for seed in SEEDS:
        step = Step.random(seed)
        correction = Correction(mode, bounds[0] if len(bounds) == 2 else None, bounds[-1])
        gap = step.old - step.sampled
        theirs = verl.helper.compute_rollout_correction_weights(gap, step.mask.double(), level, threshold)[0]
        mine = correction.weights(step.old, batch_of(step)) * step.mask
        worst = max(worst, float((mine - theirs).abs().max()))
    table.append((f"`{mode}`", "verl `compute_rollout_correction_weights`", worst, None))
    assert worst < BOUND


@pytest.mark.parametrize(
    ("mode", "floor", "cap", "name", "threshold"),
    [  # verl bounds the ratio of engine to trainer, the inverse of ours
        ("geometric_mask", 0.9, 1.1, "seq_mean_k1", f"{1 / 1.1}_{1 / 0.9}"),
        ("k3_mask", None, 0.12, "seq_mean_k3", "0.12"),
    ],
)
def test_rejections_are_those_of_verl(
    mode: Mode, floor: float | None, cap: float, name: str, threshold: str, verl: SimpleNamespace, table: list[Any]
) -> None:
    kept: list[bool] = []
    for seed in SEEDS:
        step = Step.random(seed)
        theirs, _ = verl.helper.compute_rollout_rejection_mask(
            step.old - step.sampled, step.mask.double(), name, threshold
        )
        mine = Correction(mode, floor, cap).weights(step.old, batch_of(step)) * step.mask
        assert torch.equal(mine, theirs)
        kept += (mine.sum(1) > 0).tolist()
    assert 0 < sum(kept) < len(kept)
    table.append((f"`{mode}`", f"verl `compute_rollout_rejection_mask`, {name}", 0.0, None))
