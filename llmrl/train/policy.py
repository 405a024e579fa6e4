"""The policy, which learns, and the reference, which stays or follows the policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from llmrl.batch import Batch
from llmrl.protocols import Forward
from llmrl.recipe import ModelOptions, TrainOptions
from llmrl.samples import Array, Sample
from llmrl.train import network
from llmrl.train.learner import PEAKS, Learner
from llmrl.train.moving_copy import MovingCopy
from llmrl.train.parallel import frozen


class Policy(Learner):
    """A trained model that gives the log-probabilities of the chosen tokens."""

    def __init__(self, net: network.TokenScorer, accelerator: Any, options: TrainOptions, temperature: float) -> None:
        self.temperature = temperature
        super().__init__(net, accelerator, options)

    def stop_configs(self) -> tuple[Any, Any]:
        """Configs of the model that name the tokens which end a completion."""
        plain = network.plain_model(self.net.model)
        return plain.generation_config, plain.config

    def stop_at(self, token_ids: Sequence[int]) -> None:
        """Write the tokens that end a completion here into the generation config, which `final/` will have."""
        config = network.plain_model(self.net.model).generation_config
        own = config.eos_token_id
        if ({own} if isinstance(own, int) else set(own or ())) != set(token_ids):
            config.eos_token_id = token_ids[0] if len(token_ids) == 1 else list(token_ids)

    def logprobs(self, rows: Sequence[Sample]) -> list[Array]:
        """Compute the log-probabilities of each row's action tokens, 0.0 elsewhere, on every rank."""
        return [numbers["logprobs"] for numbers in self.read(rows, ["logprobs"])]

    def without_adapters(self) -> AbstractContextManager[Any]:
        """The model below the LoRA adapters, while the context lasts."""
        adapted: AbstractContextManager[Any] = self.net.model.disable_adapter()
        return adapted

    def forward(self, batch: Batch, chunks: int, *, entropy_grad: bool = False, peaks: bool = False) -> Forward:
        """Compute log-probabilities and entropies at the sampling temperature.

        With `peaks` also of the likeliest tokens and of `ref_peak_ids`; then not over `support_ids`.
        """
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
            batch.get("ref_peak_ids", batch.token_ids) if peaks else None,
            batch.images,
        )
        names = ["logprobs", "entropy", *(PEAKS if peaks else ("kept_logprobs", "kept_entropy"))]
        new = dict(zip(names, outputs, strict=False))
        if peaks and "ref_peak_ids" not in batch.columns:
            del new["other_logprobs"]
        return Forward(**new)

    def weights(self, batch: Batch) -> Tensor:
        """(B, T) weights of the tokens' loss terms, from the algorithm's average."""
        return batch.weights


class Reference(Policy):
    """Model that the KL penalty refers to: never trained, sharded like the policy under ZeRO-3.

    It stands still, or with `sync_ref_model` takes `ref_model_mixup_alpha` of the policy every `ref_model_sync_steps`
    steps: an exponential average, or with alpha 1 a copy.
    """

    def __init__(self, net: network.TokenScorer, like: Policy, options: ModelOptions) -> None:
        self.temperature = like.temperature
        self._moves = options
        self._hold(net, like.accelerator, like.options)
        self.copy = MovingCopy(net, self.accelerator) if options.sync_ref_model else None
        if self.copy is not None:
            self.module = self.copy.module
        else:
            self.module = frozen(net, self.accelerator, bf16=self.options.bf16)

    def follow(self, policy: Policy, step: int) -> None:
        """Move towards the policy after loop step `step`, if it is time. Collective."""
        if self.copy is not None and (step + 1) % self._moves.ref_model_sync_steps == 0:
            self.copy.follow(policy.net, self._moves.ref_model_mixup_alpha)
