"""The policy, which learns, and the reference, which stays or follows the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.protocols import Forward
from llmrl.recipe import ModelOptions, TrainOptions
from llmrl.samples import Array, Sample
from llmrl.train import network
from llmrl.train.learner import Learner
from llmrl.train.parallel import frozen, gathered_parameters


class Policy(Learner):
    """A trained model that gives the log-probabilities of the chosen tokens."""

    def __init__(self, net: network.TokenScorer, accelerator: Any, options: TrainOptions, temperature: float) -> None:
        self.temperature = temperature
        super().__init__(net, accelerator, options)

    def stop_configs(self) -> tuple[Any, Any]:
        """Configs of the model that name the tokens which end a completion."""
        plain = network.plain_model(self.net.model)
        return plain.generation_config, plain.config

    def logprobs(self, rows: Sequence[Sample]) -> list[Array]:
        """Compute the log-probabilities of each row's action tokens, 0.0 elsewhere, on every rank."""
        return [numbers["logprobs"] for numbers in self.read(rows, ["logprobs"])]

    def without_adapters(self) -> AbstractContextManager[Any]:
        """The model below the LoRA adapters, while the context lasts."""
        adapted: AbstractContextManager[Any] = self.net.model.disable_adapter()
        return adapted

    def forward(self, batch: Batch, chunks: int, *, entropy_grad: bool = False) -> Forward:
        """Compute log-probabilities and entropies at the sampling temperature."""
        outputs = self.module(
            batch.token_ids,
            batch.position_ids,
            batch.action_mask,
            batch.sample_ids,
            self.temperature,
            chunks,
            entropy_grad,
            batch.support_ids,
            batch.get("support_counts"),
        )
        return Forward(**dict(zip(("logprobs", "entropy", "kept_logprobs", "kept_entropy"), outputs, strict=False)))

    def weights(self, batch: Batch) -> Tensor:
        """(B, T) weights of the tokens' loss terms, from the algorithm's average."""
        return batch.weights


class Reference(Policy):
    """Model that the KL penalty refers to: never trained, sharded like the policy under ZeRO-3.

    It stands still, or with `sync_ref_model` takes `ref_model_mixup_alpha` of the policy every `ref_model_sync_steps`
    steps: an exponential average, or with alpha 1 a copy. Then its weights are float32 whatever the policy's are: in
    bfloat16 a small change is below half a unit in the last place and would be rounded away.
    """

    def __init__(self, net: network.TokenScorer, like: Policy, options: ModelOptions) -> None:
        self.temperature = like.temperature
        self._moves = options
        self._hold(net, like.accelerator, like.options)
        if options.sync_ref_model:
            net.float()
        self.module = frozen(net, self.accelerator, bf16=self.options.bf16 and not options.sync_ref_model)
        if options.sync_ref_model:
            self.accelerator.register_for_checkpointing(self)

    def follow(self, policy: Policy, step: int) -> None:
        """Move towards the policy after loop step `step`, if it is time. Collective."""
        if not self._moves.sync_ref_model or (step + 1) % self._moves.ref_model_sync_steps:
            return
        share = self._moves.ref_model_mixup_alpha
        for mine, theirs in zip(self.net.parameters(), policy.net.parameters(), strict=True):
            with gathered_parameters([mine, theirs], self.sharded, modified=True), torch.no_grad():
                mine.lerp_(theirs.to(mine.dtype), share)

    def state_dict(self) -> dict[str, Tensor]:
        """Gather its full weights on every rank, for the checkpoint of a reference that moves."""
        state = {}
        for name, parameter in self.net.named_parameters():
            with gathered_parameters([parameter], self.sharded):
                state[name] = parameter.detach().cpu().clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of `state_dict`. Collective."""
        for name, parameter in self.net.named_parameters():
            with gathered_parameters([parameter], self.sharded, modified=True), torch.no_grad():
                parameter.copy_(state[name])
