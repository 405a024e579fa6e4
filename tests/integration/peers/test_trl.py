"""Our losses beside those of TRL, on random steps, wherever the definitions coincide.

The trainers' own `_compute_loss` is handed the log-probabilities that its model would have given. `pytest -s
tests/integration/peers` prints the table of docs/peers.md: the largest difference of values, and of gradients by
log-probability.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.rloo import RLOO
from llmrl.batch import collate
from tests.integration.peers.steps import BOUND, SEEDS, Step, entropies, gaps, ours


def trl_self(new: Tensor, algorithm: GRPO, **options: Any) -> SimpleNamespace:
    """Fields of the trainer that `_compute_loss` reads."""
    from trl import GRPOTrainer

    corrects = algorithm.importance_sampling_correction != "none"
    kind = {"constant": "dr_grpo", "sequence": "grpo", "token": "dapo", "sequence_sum": "luspo"}[algorithm.over]
    one_process = SimpleNamespace(
        num_processes=1,
        sync_gradients=False,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, **_: x,
    )
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, entropies(new), None),
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        loss_type="cispo" if algorithm.loss_type == "cispo" else kind,
        importance_sampling_level=algorithm.importance_sampling_level,
        epsilon_low=algorithm.epsilon,
        epsilon_high=algorithm.weight_cap if algorithm.loss_type == "cispo" else algorithm.high,
        beta=algorithm.beta,
        off_policy_mask_threshold=algorithm.off_policy_mask_threshold,
        max_completion_length=algorithm.max_completion_length,
        args=SimpleNamespace(delta=algorithm.delta, use_bias_correction_kl=False, steps_per_generation=1),
        use_vllm=corrects,
        vllm_importance_sampling_correction=corrects,
        top_entropy_quantile=algorithm.top_entropy_quantile,
        get_high_entropy_mask=lambda *given: GRPOTrainer.get_high_entropy_mask(
            SimpleNamespace(accelerator=one_process), *given
        ),
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        model=SimpleNamespace(training=True),
        accelerator=one_process,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _entropy_bonus_enabled=algorithm.entropy_coef != 0,
        use_adaptive_entropy=False,
        entropy_coef=algorithm.entropy_coef,
        **options,
    )


def trl_inputs(step: Step, algorithm: GRPO) -> dict[str, Tensor]:
    empty = torch.zeros(8, 0, dtype=torch.int64)
    batch = collate(step.rows, pack=False, dtype=torch.float64)
    return {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": torch.zeros_like(step.mask, dtype=torch.int64),
        "completion_mask": step.mask.double(),
        "advantages": per_row(step.credited(replace(algorithm, top_entropy_quantile=1.0))),
        "old_per_token_logps": step.old,
        "sampling_per_token_logps": step.sampled,
        "ref_per_token_logps": step.ref,
        "importance_sampling_ratio": algorithm.correction.weights(step.old, batch),
        "num_items_in_batch": step.mask.sum().double(),
    }


def per_row(advantages: Tensor) -> Tensor:
    """(8,) of (8, T): one per row, others are 0."""
    return advantages.amax(1) + advantages.amin(1)


TRL: dict[str, dict[str, Any]] = {
    "GRPO with k3": {"loss_type": "grpo", "beta": 0.04, "num_iterations": 2},
    "DAPO, clip higher, dual clip": {"epsilon_high": 0.28, "delta": 1.5, "num_iterations": 2},
    "Dr. GRPO": {
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "max_completion_length": 20,
        "num_iterations": 2,
    },
    "GSPO": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 0.05,
        "num_iterations": 2,
    },
    "sequence ratio, sum over tokens (LUSPO)": {
        "importance_sampling_level": "sequence",
        "loss_average": "sequence_sum",
        "num_iterations": 2,
    },
    "CISPO": {"loss_type": "cispo", "weight_cap": 1.3, "num_iterations": 2},
    "corrected for the engine, with k3": {
        "importance_sampling_correction": "token_mask",
        "beta": 0.1,
        "num_iterations": 2,
    },
    "off-policy mask": {"off_policy_mask_threshold": 0.05, "num_iterations": 2},
    "top entropy, with k3": {"top_entropy_quantile": 0.4, "beta": 0.04, "num_iterations": 2},
    "entropy bonus": {"entropy_coef": 0.1, "num_iterations": 2},
}


@pytest.mark.parametrize("method", TRL)
def test_grpo_is_that_of_trl(method: str, table: list[Any]) -> None:
    from trl import GRPOTrainer

    bare = {"importance_sampling_correction": "none"}
    algorithm, worst = GRPO(**bare | TRL[method]), (0.0, 0.0)
    for seed in SEEDS:
        step = Step.random(seed)
        new = step.new.clone().requires_grad_()
        loss = GRPOTrainer._compute_loss(trl_self(new, algorithm), None, trl_inputs(step, algorithm))
        theirs = loss.detach(), torch.autograd.grad(loss, new)[0]
        found = gaps(ours(algorithm, step, algorithm.entropy_coef), theirs)
        worst = max(worst[0], found[0]), max(worst[1], found[1])
    table.append((method, "TRL `GRPOTrainer._compute_loss`", *worst))
    assert max(worst) < BOUND


@pytest.mark.parametrize("several", [True, False])
def test_rloo_is_that_of_trl(several: bool, table: list[Any]) -> None:
    # TRL clips the product of a row's ratios. With one update that is 1, and its gradient is our unclipped one.
    from trl import RLOOTrainer

    options = {"minibatches": 2, "importance_sampling_level": "product", "epsilon": 0.6} if several else {}
    algorithm, worst = RLOO(beta=0.05, importance_sampling_correction="none", **options), (0.0, 0.0)  # type: ignore[arg-type]
    for seed in SEEDS:
        step = Step.random(seed)
        step = step if several else replace(step, new=step.old)
        new = step.new.clone().requires_grad_()
        me = trl_self(new, GRPO(epsilon=0.6))
        advantages = step.credited(algorithm)
        inputs = trl_inputs(step, GRPO()) | {
            "old_logps": (step.old * step.mask).sum(1),
            "advantages": per_row(advantages),
        }
        loss = RLOOTrainer._compute_loss(me, None, inputs)
        theirs = loss.detach(), torch.autograd.grad(loss, new)[0]
        value, gradient = gaps(ours(algorithm, step), theirs)
        worst = max(worst[0], value if several else 0.0), max(worst[1], gradient)
    name = "RLOO, several updates, product of ratios" if several else "RLOO, one update (gradient)"
    table.append((name, "TRL `RLOOTrainer._compute_loss`", *worst))
    assert max(worst) < BOUND
