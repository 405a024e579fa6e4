"""Logits that a critic moves, inside vLLM: a logits processor in the process of the engine.

In the training process the engine's requests name the critic that it has loaded. In a server every request is moved
alike, and the processor loads the critic that the server's arguments name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from llmrl.engines.vllm.mask_policy import MaskPolicy, Running, logits_by_row, policies
from llmrl.ops.perturbation import perturbed

if TYPE_CHECKING:
    from torch import Tensor

OPTION = "llmrl_critic"
"""In a request's `extra_args`: [its name, that of the critic in `policies`, beta, top_k]. In the configuration of a
server: [folder of the critic, beta, top_k]."""
SERVER = "server"
"""Name in `policies` of the critic of a server."""


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

        process_dict_updates(self._requests, batch_update, self._request)

    def apply(self, logits: Tensor) -> Tensor:
        numbers = logits_by_row({row: request.running for row, request in self._requests.items()})
        for row, found in numbers.items():
            request = self._requests[row]
            logits[row] = perturbed(logits[row], found, request.beta, request.top_k)
        return logits

    def _request(self, params: Any, prompt: list[int] | None, sampled: list[int]) -> _Request | None:
        """The request as it asks for itself; None where it does not."""
        asked = (params.extra_args or {}).get(OPTION)
        if asked is None:
            return None
        name, critic, beta, top_k = asked
        return _Request(Running(name, critic, list(prompt or ()), sampled), beta, top_k)


class ServerPerturbation(Perturbation):
    """The same for all requests of a server, by the critic that its `--additional-config` names: see `arguments`."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        from llmrl.critics import action_values

        super().__init__(vllm_config, device, is_pin_memory)
        critic, self._beta, self._top_k = vllm_config.additional_config[OPTION]
        dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
        policies[SERVER] = MaskPolicy(action_values.load(critic, dtype, device))
        self._named = 0

    def _request(self, params: Any, prompt: list[int] | None, sampled: list[int]) -> _Request | None:
        self._named += 1
        return _Request(Running(str(self._named), SERVER, list(prompt or ()), sampled), self._beta, self._top_k)


def arguments(critic: str, beta: float, top_k: int) -> list[str]:
    """Arguments of vLLM's server whose answers a critic moves."""
    given = json.dumps({OPTION: [critic, beta, top_k]})
    return ["--logits-processors", f"{__name__}:served", "--additional-config", given]


def _vllm_processor(kind: type[Perturbation]) -> type:
    """Make a child of vLLM's own class, which vLLM asks for."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    return type(kind.__name__, (kind, LogitsProcessor), {})


@cache
def processor() -> type:
    """The processor of the engine in the training process."""
    return _vllm_processor(Perturbation)


@cache
def _served() -> type:
    return _vllm_processor(ServerPerturbation)


def __getattr__(name: str) -> type:
    """`served`, by which vLLM finds the processor of a server; made when it asks, for only then is vLLM imported."""
    if name == "served":
        return _served()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
