"""Ranks of answers by a policy and a value that were trained together: the learned Q, without any test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llmrl.batch import Batch, collate
from llmrl.critics.folder import head_specs, take_heads
from llmrl.critics.language_model import decoder_of, head_of, pretrained, vocabulary_of
from llmrl.critics.layers import Tokens, layer
from llmrl.critics.layers import head_of as critic_head
from llmrl.errors import CheckpointError
from llmrl.ops.dueling import lead, rank_scores
from llmrl.ops.logprobs import peak_logprobs, pieces, predicting
from llmrl.samples import Sample

HEAD, CHUNK_MB = "v", 256


class Answer(NamedTuple):
    """Token ids of a prompt and of its answer."""

    prompt: Sequence[int]
    tokens: Sequence[int]


class Rank(NamedTuple):
    """Numbers by which answers to one problem can be ordered, the higher the better."""

    value: float  # the sum of Q less the discounted V behind it
    logprob: float  # of the answer by the policy
    mean_logprob: float  # of a token


@dataclass(frozen=True)
class DuelingModel:
    """A policy and the value in its `critic/`, both frozen."""

    policy: Any
    trunk: Any
    layer: nn.Module
    head: Any
    tokens_per_batch: int

    def ranks(self, answers: Sequence[Answer], gamma: float, alpha: float) -> list[Rank]:
        """Rank answers that have at least one token each, those of like length together.

        Args:
            gamma: discount of a token, as in training.
            alpha: reward of a nat, as in training.
        """
        ranks: dict[int, Rank] = {}
        for some in self._batches(answers):
            batch = collate([_sample(answers[i]) for i in some], pack=False, device=self._device)
            ranks |= dict(zip(some, self._ranks(batch, gamma, alpha), strict=True))
        return [ranks[i] for i in range(len(answers))]

    def _batches(self, answers: Sequence[Answer]) -> Iterator[list[int]]:
        """Numbers of answers that are read at once."""
        lengths = [len(answer.prompt) + len(answer.tokens) for answer in answers]
        some: list[int] = []
        for i in sorted(range(len(answers)), key=lambda i: -lengths[i]):
            if some and lengths[some[0]] * (len(some) + 1) > self.tokens_per_batch:
                yield some
                some = []
            some.append(i)
        if some:
            yield some

    @torch.no_grad()
    def _ranks(self, batch: Batch, gamma: float, alpha: float) -> list[Rank]:
        chosen = predicting(batch.action_mask)
        inputs = {"input_ids": batch.token_ids, "position_ids": batch.position_ids, "use_cache": False}
        states = chosen.predicting(decoder_of(self.policy)(**inputs).last_hidden_state)
        head, wanted = head_of(self.policy), chosen.tokens(batch.token_ids)
        chunks = pieces(len(wanted), vocabulary_of(self.policy.config), CHUNK_MB)
        logprobs, _, peak, *_ = peak_logprobs(states, head, wanted, wanted, chunks=chunks)
        tokens = Tokens(batch.token_ids, batch.position_ids, batch.action_mask, batch.sample_ids, 1)
        values = self.head.values(self.layer(self.trunk(**inputs).last_hidden_state, tokens)[0])
        advantages, logprobs = (chosen.scatter(numbers) for numbers in (lead(logprobs, peak, alpha), logprobs))
        values = torch.where(batch.action_mask, values, 0.0)
        totals = logprobs.sum(-1), logprobs.sum(-1) / batch.action_mask.sum(-1)
        ranked = _behind_each_other(advantages, values, batch.action_mask, gamma)
        return [Rank(*numbers) for numbers in zip(ranked.tolist(), *(total.tolist() for total in totals), strict=True)]

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.policy.device
        return device


def _behind_each_other(advantages: Tensor, values: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """(B,) `rank_scores` of the action tokens, which are moved to the left, with zeros behind them."""
    order = (~mask).to(torch.int8).argsort(dim=-1, stable=True)
    return rank_scores(advantages.gather(-1, order), values.gather(-1, order), gamma)


def load(folder: str, device: str | None, dtype: str, tokens_per_batch: int) -> DuelingModel:
    """Load what a run with algorithm bcoder left in `final/`.

    Raises:
        CheckpointError: the folder holds no policy with such a value.
    """
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # under ZeRO-3 Transformers would shard these models too, which work by themselves
    critic = Path(folder) / "critic"
    specs = {name: spec for name, spec in head_specs(critic).items() if name == HEAD}
    if not specs:
        raise CheckpointError(f"{critic}: no head {HEAD}; expected final/ of a run with algorithm.name=bcoder")
    options: Any = {"dtype": getattr(torch, dtype)}
    try:
        policy = pretrained(AutoModelForCausalLM, folder, **options)
        trunk = pretrained(AutoModel, str(critic), **options)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: did not load: {error}") from error
    spec = critic_head(specs[HEAD])
    layers = nn.ModuleDict({HEAD: layer(spec, trunk, zero_init=True)})
    take_heads(layers, specs, critic)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    policy, trunk, values = (part.to(place).eval().requires_grad_(False) for part in (policy, trunk, layers[HEAD]))
    return DuelingModel(policy, trunk, values, spec.head, tokens_per_batch)


def _sample(answer: Answer) -> Sample:
    """A row of the answer's tokens."""
    turns = np.repeat([-1, 0], [len(answer.prompt), len(answer.tokens)])
    columns = {"token_ids": [*answer.prompt, *answer.tokens], "turn_ids": turns}
    return Sample(group="", episode=0, reward=0.0, columns=columns)
