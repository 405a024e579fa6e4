"""Draw tokens in Transformers' generation: seeded, with log-probabilities and the ids that top-p kept."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmrl.ops.stop_strings import StopStrings
from llmrl.types import Sampling

if TYPE_CHECKING:
    from torch import Generator, Tensor


class SecondModel:
    """A model that reads the sequences of one batch beside the one that samples; its own cache grows with them.

    Args:
        network: a causal language model, or what has its face.
        prompts: (B, T) 1 where a token stands, 0 where padding does.
    """

    def __init__(self, network: Any, prompts: Tensor) -> None:
        self._network = network
        self._attended = prompts
        self._cache: Any = None

    def logits(self, input_ids: Tensor) -> Tensor:
        """(B, V) float32 of the token behind each sequence."""
        import torch
        from transformers import DynamicCache

        if self._cache is None:
            self._cache = DynamicCache(config=self._network.config)
        else:
            fresh = self._attended.new_ones(len(input_ids), 1)
            self._attended = torch.cat([self._attended, fresh], dim=-1)
        positions = (self._attended.cumsum(-1) - 1).clamp(min=0)
        new = input_ids.shape[1] - self._cache.get_seq_length()
        logits: Tensor = self._network(
            input_ids=input_ids[:, -new:],
            attention_mask=self._attended,
            position_ids=positions[:, -new:],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits.float()


class Keeper:
    """Logits processor of one batch that applies top-p and records the ids that it keeps."""

    def __init__(
        self, sampling: Sampling, least: int, always: Sequence[int], mask_policy: Any, prompts: Tensor
    ) -> None:
        self._sampling = sampling
        self._least = least
        self._always = always
        self._mask = None if mask_policy is None else SecondModel(mask_policy, prompts)  # None: the scores decide
        self._kept: list[list[array[int]]] = []  # by step

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, V) scores, -inf where a token is not kept; the scores have had the temperature already."""
        from llmrl.ops.nucleus import ids_of, nucleus

        deciding = scores if self._mask is None else self._mask.logits(input_ids) / self._sampling.temperature
        kept = nucleus(deciding, self._sampling.top_p, least=self._least, always=self._always)
        self._kept.append(ids_of(kept))
        return scores.masked_fill(~kept, -float("inf"))

    def kept(self, index: int) -> list[array[int]]:
        """Ids among which each token of one request was drawn."""
        return [step[index] for step in self._kept]


class TokenSampler:
    """Logits processor that draws: the largest of log-probability plus Gumbel noise is a sample of the softmax."""

    def __init__(
        self,
        sampling: list[Sampling],
        device: Any,
        keeper: Keeper | None,
        moved: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        import torch
        from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self._temperature = sampling[0].temperature
        self._moved = moved  # logits by a critic, before the temperature
        self._warpers: list[Any] = []
        if sampling[0].top_k > 0:
            self._warpers.append(TopKLogitsWarper(sampling[0].top_k))
        if keeper is not None:
            self._warpers.append(keeper)
        elif sampling[0].top_p < 1.0:
            self._warpers.append(TopPLogitsWarper(sampling[0].top_p))
        if sampling[0].min_p > 0.0:
            self._warpers.append(MinPLogitsWarper(sampling[0].min_p))
        self._generators: list[Generator] = [torch.Generator(device).manual_seed(s.seed or 0) for s in sampling]
        self._tokens: list[Tensor] = []
        self._logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        import torch

        if self._moved is not None:
            scores = self._moved(input_ids, scores)
        if self._temperature > 0:
            scores = scores / self._temperature
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        logprobs = scores.log_softmax(-1)
        drawn = logprobs
        if self._temperature > 0:
            noise = torch.empty_like(logprobs)
            for row, generator in zip(noise, self._generators, strict=True):
                row.exponential_(generator=generator)
            drawn = logprobs - noise.log()
        tokens = drawn.argmax(-1, keepdim=True)
        self._tokens.append(tokens)
        self._logprobs.append(logprobs.gather(-1, tokens))
        return drawn

    def rows(self, index: int) -> tuple[list[int], list[float]]:
        """Tokens drawn for one request, with their log-probabilities."""
        return [int(t[index]) for t in self._tokens], [float(p[index]) for p in self._logprobs]


def ending(strings: StopStrings, width: int) -> Any:
    """Stopping criterion that ends each row at its first stop string.

    Args:
        width: tokens of the padded prompts, which are not searched.
    """
    from torch import tensor
    from transformers import StoppingCriteriaList

    def ended(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(B,) True where the newest token completes a string; rows that ended before are not looked at."""
        rows = input_ids[:, width:].tolist()
        return tensor([strings(row, len(row) - 1) is not None for row in rows], device=input_ids.device)

    return StoppingCriteriaList([ended])
