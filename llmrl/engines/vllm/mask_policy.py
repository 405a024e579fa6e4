"""A policy that lags behind another, and gives its next-token logits for running sequences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrl.errors import EngineError, SyncError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class _Cohort:
    """Sequences that began together: a left-padded batch whose keys and values are kept."""

    names: list[str]
    lengths: list[int]  # tokens that the cache holds of each
    attended: Tensor  # (n, T) 1 where a token stands, 0 where padding does
    cache: Any

    def known(self) -> Iterator[tuple[str, int]]:
        """Pairs of a sequence's name and the number of its tokens that were read."""
        return zip(self.names, self.lengths, strict=True)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows and drop the others."""
        import torch

        if len(rows) == len(self.names):
            return
        if not rows:
            self.names = []
            return
        indices = torch.tensor(rows, device=self.attended.device)
        self.cache.batch_select_indices(indices)
        self.attended = self.attended[indices]
        self.names, self.lengths = [self.names[i] for i in rows], [self.lengths[i] for i in rows]


class MaskPolicy:
    """A causal language model of Transformers that reads each token of a running sequence only once."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._cohorts: list[_Cohort] = []

    def logits(self, sequences: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """(V,) float32 of the token behind each sequence.

        Args:
            sequences: by name, prompt and completion so far, at least one token. Those of a name that is left out are
                forgotten; one that did not grow by just one token since the last call is read anew.
        """
        found: dict[str, Tensor] = {}
        for cohort in self._cohorts:
            grown = [len(sequences.get(name, ())) - length for name, length in cohort.known()]
            cohort.keep([i for i, more in enumerate(grown) if more == 1])
            if cohort.names:
                found |= self._step(cohort, [sequences[name][-1:] for name in cohort.names])
        self._cohorts = [cohort for cohort in self._cohorts if cohort.names]
        if fresh := {name: tokens for name, tokens in sequences.items() if name not in found}:
            found |= self._begin(fresh)
        return found

    def following(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Pass weights on, each after this model has taken it.

        Raises:
            SyncError: a name or a shape that the model does not have, or a weight that was not given. The model then
                holds old and new weights and must not be used.
        """
        import torch

        self.forget()  # its caches were computed with the old weights
        own = self._network.state_dict()
        fresh: set[int] = set()  # tied weights are one tensor under two names
        for name, tensor in weights:
            if name not in own or own[name].shape != tensor.shape:
                shape = tuple(own[name].shape) if name in own else "no such weight"
                raise SyncError(f"mask policy: weight {name} of {tuple(tensor.shape)}, expected {shape}")
            with torch.no_grad():
                own[name].copy_(tensor)
            fresh.add(own[name].data_ptr())
            yield name, tensor
        stale = [name for name, weight in self._network.named_parameters() if weight.data_ptr() not in fresh]
        if stale:
            raise SyncError(f"mask policy: {len(stale)} weights were not given, among them {', '.join(stale[:3])}")

    def forget(self) -> None:
        """Free the caches of the sequences; those that still run are read anew."""
        self._cohorts = []

    def _begin(self, sequences: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        import torch
        from transformers import DynamicCache

        lengths = [len(tokens) for tokens in sequences.values()]
        width, device = max(lengths), self._network.device
        rows = [[0] * (width - len(tokens)) + list(tokens) for tokens in sequences.values()]
        attended = torch.tensor([[0] * (width - n) + [1] * n for n in lengths], device=device)
        cohort = _Cohort(
            list(sequences), [0] * len(lengths), attended[:, :0], DynamicCache(config=self._network.config)
        )
        self._cohorts.append(cohort)
        return self._read(cohort, rows, attended, lengths)

    def _step(self, cohort: _Cohort, tokens: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        return self._read(cohort, tokens, cohort.attended.new_ones(len(tokens), 1), [1] * len(tokens))

    def _read(
        self, cohort: _Cohort, tokens: Sequence[Sequence[int]], new: Tensor, grown: Sequence[int]
    ) -> dict[str, Tensor]:
        import torch

        cohort.attended = torch.cat([cohort.attended, new], dim=-1)
        cohort.lengths = [length + more for length, more in zip(cohort.lengths, grown, strict=True)]
        positions = (cohort.attended.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = self._network(
                input_ids=torch.tensor([list(some) for some in tokens], device=new.device),
                attention_mask=cohort.attended,
                position_ids=positions[:, -new.shape[1] :],
                past_key_values=cohort.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        return dict(zip(cohort.names, logits.float(), strict=True))


policies: dict[str, MaskPolicy] = {}
"""Models beside the one that samples, by name: logits processors of vLLM know nothing but a request's arguments."""


@dataclass(frozen=True, slots=True)
class Running:
    """A request of vLLM that a model in `policies` reads."""

    name: str
    policy: str
    prompt: list[int]
    said: list[int]  # vLLM's own list of the request's tokens, which grows


def logits_by_row(requests: Mapping[int, Running]) -> dict[int, Tensor]:
    """(V,) logits of each request's own second model, by its row of the batch; one pass of each model."""
    asked: dict[str, dict[str, int]] = defaultdict(dict)  # by policy: the row of a request
    for row, request in requests.items():
        asked[request.policy][request.name] = row
    found: dict[int, Tensor] = {}
    for policy, rows in asked.items():
        texts = {name: [*requests[row].prompt, *requests[row].said] for name, row in rows.items()}
        found |= {rows[name]: logits for name, logits in policies[policy].logits(texts).items()}
    return found


def load(model: str, dtype: str, device: str) -> MaskPolicy:
    """Load a mask policy with the weights of a folder or hub name.

    Raises:
        EngineError: it holds no causal language model.
    """
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from llmrl.critics.language_model import LanguageModel, pretrained

    unset_hf_deepspeed_config()  # under ZeRO-3 Transformers would shard this model too, which works by itself
    try:
        network: Any = pretrained(LanguageModel, model, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise EngineError(f"engine vllm: the mask policy {model} did not load: {error}") from error
    return MaskPolicy(network.to(device).eval().requires_grad_(False))
