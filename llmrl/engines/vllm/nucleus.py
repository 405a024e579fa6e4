"""Top-p inside vLLM that records the ids it keeps, which vLLM's own sampler does not tell.

A logits processor in the process of the engine; its record is read by `taken`.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from llmrl.engines.vllm.mask_policy import Running, logits_by_row
from llmrl.ops.nucleus import ids_of, nucleus

if TYPE_CHECKING:
    from torch import Tensor

OPTION = "llmrl_nucleus"  # in `SamplingParams.extra_args`: [name, top_p, least, ids that are always kept, whose top-p]
_taken: dict[str, dict[int, array[int]]] = {}  # by name of the request, by position in its completion


@dataclass(frozen=True, slots=True)
class _Request:
    name: str
    top_p: float
    least: int
    always: tuple[int, ...]
    policy: str | None  # in `policies`; None: the probabilities that are sampled from decide
    temperature: float
    prompt: list[int]
    said: list[int]  # vLLM's own list of the request's tokens, which grows


class Nucleus:
    """Applies top-p to the requests that ask for it by `OPTION`, and records the ids kept for each token."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}  # by row of the batch

    def is_argmax_invariant(self) -> bool:
        """True: such processors come after the temperature, and skip greedy requests.

        With a mask policy the most probable token may be left out; no request with a mask policy is greedy.
        """
        return True

    def update_state(self, batch_update: Any) -> None:
        from vllm.v1.sample.logits_processor.builtin import process_dict_updates

        process_dict_updates(self._requests, batch_update, _request)

    def apply(self, logits: Tensor) -> Tensor:
        alike: dict[tuple[float, int, tuple[int, ...]], list[int]] = defaultdict(list)
        for row, request in self._requests.items():
            alike[request.top_p, request.least, request.always].append(row)
        deciding = self._deciding(logits)
        for (top_p, least, always), rows in alike.items():
            kept = nucleus(deciding[rows], top_p, least=least, always=always)
            logits[rows] = logits[rows].masked_fill(~kept, -float("inf"))
            for row, ids in zip(rows, ids_of(kept), strict=True):
                request = self._requests[row]
                # A request that vLLM turned back, or took up in parts, comes here again for the same position.
                _taken.setdefault(request.name, {})[len(request.said)] = ids
        return logits

    def _deciding(self, logits: Tensor) -> Tensor:
        """Logits whose top-p decides: those of each mask policy, or those that are sampled from."""
        read = {
            row: Running(request.name, request.policy, request.prompt, request.said)
            for row, request in self._requests.items()
            if request.policy is not None
        }
        deciding = logits.clone() if read else logits
        for row, found in logits_by_row(read).items():
            deciding[row] = found / self._requests[row].temperature
        return deciding


@cache
def processor() -> type:
    """Make `Nucleus` a child of vLLM's own class, which vLLM asks for."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    return type("Nucleus", (Nucleus, LogitsProcessor), {})


def taken(name: str) -> list[array[int]]:
    """Take the ids among which each token of a finished request was drawn, in order, out of the record."""
    by_position = _taken.pop(name, {})
    return [by_position[position] for position in sorted(by_position)]


def _request(params: Any, prompt: list[int] | None, sampled: list[int]) -> _Request | None:
    asked = (params.extra_args or {}).get(OPTION)
    if asked is None:
        return None
    name, top_p, least, always, policy = asked
    return _Request(name, top_p, least, tuple(always), policy, params.temperature, list(prompt or ()), sampled)
