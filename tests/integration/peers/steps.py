"""Random steps, and the losses and gradients of ours on them, to stand beside those of a peer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.batch import Batch, collate
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import sample

SEEDS = range(5)
BOUND = 1e-7  # float64 on both sides; peers add 1e-8 to counts, and 1e-6 where we add nothing
Algorithm = GRPO | RLOO
Pair = tuple[Tensor, Tensor]
"""A loss and its gradient."""


@dataclass(frozen=True)
class Step:
    """Eight rows of two prompts, with observed tokens between the actions; (8, T) float64 of each column."""

    rows: list[Sample]
    mask: Tensor
    new: Tensor
    old: Tensor
    sampled: Tensor
    ref: Tensor

    @staticmethod
    def random(seed: int, width: int = 9) -> Step:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.rand(8, width, generator=generator) < 0.75
        mask[:, 0], mask[:, 1] = False, True  # a prompt, and at least one action
        drawn = -1.5 + 0.35 * torch.randn(4, 8, width, generator=generator, dtype=torch.float64)
        new, old, sampled, ref = torch.where(mask, drawn, 0.0)
        rewards = torch.rand(8, generator=generator, dtype=torch.float64).tolist()
        rows = [
            sample(
                group=f"g{i // 4}",
                episode=i % 4,
                reward=rewards[i],
                turn_rewards=[0.0],
                token_ids=[0] * width,
                turn_ids=[0] * width,
                action_mask=mask[i].tolist(),
                sampled_logprobs=sampled[i].tolist(),
                old_logprobs=old[i].tolist(),
                ref_logprobs=ref[i].tolist(),
                old_entropy=entropies(new[i]).tolist(),
            )
            for i in range(8)
        ]
        return Step(rows, mask, new, old, sampled, ref)

    def credited(self, algorithm: Algorithm | ReinforcePP) -> Tensor:
        """(8, T) advantages."""
        rows = algorithm.credit(self.rows)
        assert len(rows) == len(self.rows)
        return torch.tensor([row.advantages.tolist() for row in rows], dtype=torch.float64)


def ours(algorithm: Algorithm, step: Step, entropy: float = 0.0) -> Pair:
    new = step.new.clone().requires_grad_()
    rows = algorithm.credit(step.rows)
    batch = collate(rows, pack=False, dtype=torch.float64)
    loss = algorithm.loss(Forward(logprobs=new, entropy=entropies(new) if entropy else None), batch)
    total = (loss.terms * batch.weights).sum()
    return total.detach(), torch.autograd.grad(total, new)[0]


def entropies(new: Tensor) -> Tensor:
    """Any function of the policy serves as its entropy."""
    return 0.5 * new.square()


def gaps(left: Pair, right: Pair) -> tuple[float, float]:
    return float((left[0] - right[0]).abs()), float((left[1] - right[1]).abs().max())


def batch_of(step: Step) -> Batch:
    return collate(step.rows, pack=False, dtype=torch.float64)
