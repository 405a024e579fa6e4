"""Top-p inside vLLM, remembered: vLLM's own sampler leaves tokens out and does not say which.

A logits processor, at work in the process of the engine: what it remembers is read from `taken`.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from llmrl.ops.nucleus import ids_of, nucleus

if TYPE_CHECKING:
    from torch import Tensor

OPTION = "llmrl_nucleus"  # in `SamplingParams.extra_args`: [name, top_p, least, ids that are always kept]
_taken: dict[str, dict[int, array[int]]] = {}  # by name of the request, by position in its completion


@dataclass(frozen=True, slots=True)
class _Request:
    name: str
    top_p: float
    least: int
    always: tuple[int, ...]
    said: list[int]  # vLLM's own list of the request's tokens, which grows


class Nucleus:
    """Applies top-p to the requests that ask for it by `OPTION`, and remembers what it left of each token's choice."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}  # by row of the batch

    def is_argmax_invariant(self) -> bool:
        """True: the most probable token stays. Such processors come after the temperature."""
        return True

    def update_state(self, batch_update: Any) -> None:
        from vllm.v1.sample.logits_processor.builtin import process_dict_updates

        process_dict_updates(self._requests, batch_update, _request)

    def apply(self, logits: Tensor) -> Tensor:
        alike: dict[tuple[float, int, tuple[int, ...]], list[int]] = defaultdict(list)
        for row, request in self._requests.items():
            alike[request.top_p, request.least, request.always].append(row)
        for (top_p, least, always), rows in alike.items():
            kept = nucleus(logits[rows], top_p, least=least, always=always)
            logits[rows] = logits[rows].masked_fill(~kept, -float("inf"))
            for row, ids in zip(rows, ids_of(kept), strict=True):
                request = self._requests[row]
                # A request that vLLM turned back, or took up in parts, comes here again for the same position.
                _taken.setdefault(request.name, {})[len(request.said)] = ids
        return logits


@cache
def processor() -> type:
    """`Nucleus` as a class that vLLM takes, which asks for a child of its own."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    return type("Nucleus", (Nucleus, LogitsProcessor), {})


def taken(name: str) -> list[array[int]]:
    """Among which ids each token of a finished request was drawn, in order; it is forgotten here."""
    by_position = _taken.pop(name, {})
    return [by_position[position] for position in sorted(by_position)]


def _request(params: Any, _prompt: list[int] | None, said: list[int]) -> _Request | None:
    asked = (params.extra_args or {}).get(OPTION)
    if asked is None:
        return None
    name, top_p, least, always = asked
    return _Request(name, top_p, least, tuple(always), said)
