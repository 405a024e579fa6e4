"""Natural-language policy optimisation: PPO over the tokens that a nucleus left, which the sampler stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from llmrl.algorithms.ppo import PPO
from llmrl.errors import RecipeError
from llmrl.ops.kl import k3
from llmrl.protocols import Column, Forward, Loss
from llmrl.samples import Sample

if TYPE_CHECKING:
    from llmrl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class NLPO(PPO):
    """PPO whose actions are the nucleus of a policy that lags behind (arXiv 2210.01241; docs/algorithms/nlpo.md).

    Ratios, entropy and the engine's correction are of the policy renormalised over the tokens among which each token
    was sampled; the divergence from the reference, in the reward, is of the whole policy. The mask is the sampler's:
    the engine returns what it kept (`return_kept_ids`, with `rollout.top_p`), and which weights decide is its option
    (`mask_update_steps`). Options are PPO's.
    """

    needs_kept_ids: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl_coef and not self.kl_in_reward:
            raise ValueError("nlpo: the divergence is of the whole policy and stands in the reward; kl_in_reward: true")

    def needs(self) -> frozenset[Column]:
        """PPO's columns; and the policy before the step over the kept tokens, where ratios are against it."""
        columns = set(super().needs())
        if self.num_ppo_epochs * self.minibatches > 1:
            columns.add("old_kept_logprobs")
        return frozenset(columns)

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """PPO's loss of the renormalised policy; metrics say how much the mask left out."""
        inside = new.with_columns(logprobs=new.kept_logprobs, entropy=new.get("kept_entropy"))
        found = super().loss(inside, batch.with_columns(old_logprobs=batch.get("old_kept_logprobs")))
        whole = new.logprobs.detach()
        metrics = dict(found.metrics)
        metrics["nlpo/kept_tokens"] = batch.support_counts.to(whole.dtype)
        metrics["nlpo/mass_outside"] = 1.0 - (whole - new.kept_logprobs.detach()).clamp(max=0.0).exp()
        if self.kl_coef:
            metrics["nlpo/kl_kept"] = metrics["kl"]
            metrics["kl"] = k3(whole, batch.ref_logprobs)
        return Loss(found.terms, metrics)

    def _require_comparable(self, samples: Sequence[Sample]) -> None:
        """Refuse rows that do not say among which tokens they were sampled.

        Raises:
            RecipeError: so it is.
        """
        for row in samples:
            if row.support_ids is None:
                raise RecipeError(
                    f"group {row.group}, episode {row.episode}: nlpo needs the tokens among which each was sampled; "
                    "set engine.return_kept_ids=true (engine vllm or hf) and rollout.top_p below 1, such as 0.9"
                )


plugin = NLPO
