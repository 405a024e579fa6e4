"""One or more vLLM servers, started here or running elsewhere, as one engine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.engines.server import process as server_process
from llmrl.errors import EngineError

if TYPE_CHECKING:
    from llmrl.engines.server.client import VllmClient

RECEIVER = "llmrl.engines.vllm.worker.WeightReceiver"


@dataclass(frozen=True, kw_only=True)
class Server:
    """Options of the engine `server`. Those of vLLM keep its names."""

    servers: int = 1  # started here, one after another on free loopback ports, and stopped whatever happens
    urls: Sequence[str] = ()  # servers that run already, such as http://node7:8000; then none is started
    api_key: str | None = None  # of those
    served_model_name: str | None = None  # there; None: the first that they name
    sync_dir: str | None = None  # folder for weights on their way; None: /dev/shm where it has room
    timeout_s: float = 600.0  # of one completion, retries included, and of one change of weights
    in_flight_updates: bool = False  # new weights reach requests in their midst, instead of waiting until they end
    retries: int = 3  # after a lost connection or a 5xx answer, on another server where there is one
    start_timeout_s: float = 300.0
    log_dir: str | None = None  # for server-0.log, ...; None: a temporary folder, removed by close
    enforce_eager: bool | None = None  # None: eager on a CPU, where compiling costs 45 s, compiled on a GPU
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    devices: Sequence[str] = ()  # CUDA_VISIBLE_DEVICES of each server started here
    enable_sleep_mode: bool = False  # for servers that share the trainer's GPU
    cpu_kvcache_space: int = 1  # GiB, on a CPU
    omp_threads: int | None = None  # of each server, on a CPU
    server_args: Sequence[str] = ()  # anything else that vLLM's server takes

    def __post_init__(self) -> None:
        if not self.urls and self.servers < 1:
            raise ValueError("servers: expected at least 1, or urls of servers that run")
        if self.devices and len(self.devices) != self.servers:
            raise ValueError(f"devices: {len(self.devices)} entries for {self.servers} servers")
        if self.timeout_s <= 0 or self.start_timeout_s <= 0 or self.retries < 0:
            raise ValueError("timeout_s and start_timeout_s must be above 0, retries at least 0")

    @property
    def concurrent(self) -> bool:
        """Whether it can generate while the trainer learns: not where it gives it its memory."""
        return not self.enable_sleep_mode

    def start(
        self, model: str, *, dtype: str, seed: int, max_model_len: int, stop_token_ids: Sequence[int]
    ) -> VllmClient:
        """The engine, every server answering.

        Raises:
            EngineError: a server did not start (quotes the end of its log) or does not answer.
        """
        from llmrl.engines.server.client import VllmClient

        running: list[server_process.ApiServer] = []
        if not self.urls:
            arguments = self._arguments(dtype, seed, max_model_len)
            running = server_process.start(model, arguments, self._environments(), self._logs(), self.start_timeout_s)
        try:
            return VllmClient(self, running, dtype=dtype, max_model_len=max_model_len, stop_token_ids=stop_token_ids)
        except BaseException:
            for server in running:
                server.child.stop()
            raise

    def _arguments(self, dtype: str, seed: int, max_model_len: int) -> list[str]:
        import torch

        on_cpu = not torch.cuda.is_available()
        given = {
            "--dtype": dtype,
            "--seed": seed,
            "--max-model-len": max_model_len,
            "--generation-config": "vllm",  # a request says all; the model's own defaults would add to it
            "--logprobs-mode": "processed_logprobs",  # of the distribution that was sampled from
            "--worker-extension-cls": RECEIVER,
            "--uvicorn-log-level": "warning",
            "--tensor-parallel-size": self.tensor_parallel_size,
        }
        if not on_cpu:
            given["--gpu-memory-utilization"] = self.gpu_memory_utilization
        flags = [str(part) for pair in given.items() for part in pair]
        if on_cpu if self.enforce_eager is None else self.enforce_eager:
            flags.append("--enforce-eager")
        if self.enable_sleep_mode:
            flags.append("--enable-sleep-mode")
        return [*flags, *self.server_args]

    def _environments(self) -> list[dict[str, str]]:
        base = server_process.environment(
            cpu_kvcache_space=self.cpu_kvcache_space, omp_threads=self.omp_threads, beside_trainer=True
        )
        seen = [{"CUDA_VISIBLE_DEVICES": d} for d in self.devices] or [{}] * self.servers
        return [base | own for own in seen]

    def _logs(self) -> Path:
        folder = Path(self.log_dir or tempfile.mkdtemp(prefix=f"llmrl-servers-{os.getpid()}-"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"engine.log_dir: {folder} cannot be made: {error.strerror}; name a folder of yours"
            ) from error
        return folder


plugin = Server
