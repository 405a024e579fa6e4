"""Logits that a critic moves, inside vLLM: a logits processor in the process of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from llmrl.engines.vllm.mask_policy import Running, logits_by_row
from llmrl.ops.perturbation import perturbed

if TYPE_CHECKING:
    from torch import Tensor

OPTION = (
    "llmrl_critic"  # in `SamplingParams.extra_args`: [name of the request, of the critic in `policies`, beta, top_k]
)


@dataclass(frozen=True, slots=True)
class _Request:
    running: Running
    beta: float
    top_k: int


class Perturbation:
    """Adds a multiple of a critic's numbers to the logits of the requests that ask for it by `OPTION`."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}  # by row of the batch

    def is_argmax_invariant(self) -> bool:
        """False: it comes before the temperature, and for greedy requests, too."""
        return False

    def update_state(self, batch_update: Any) -> None:
        from vllm.v1.sample.logits_processor.builtin import process_dict_updates

        process_dict_updates(self._requests, batch_update, _request)

    def apply(self, logits: Tensor) -> Tensor:
        numbers = logits_by_row({row: request.running for row, request in self._requests.items()})
        for row, found in numbers.items():
            request = self._requests[row]
            logits[row] = perturbed(logits[row], found, request.beta, request.top_k)
        return logits


@cache
def processor() -> type:
    """Make `Perturbation` a child of vLLM's own class, which vLLM asks for."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    return type("Perturbation", (Perturbation, LogitsProcessor), {})


def _request(params: Any, prompt: list[int] | None, sampled: list[int]) -> _Request | None:
    asked = (params.extra_args or {}).get(OPTION)
    if asked is None:
        return None
    name, critic, beta, top_k = asked
    return _Request(Running(name, critic, list(prompt or ()), sampled), beta, top_k)
