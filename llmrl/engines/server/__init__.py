"""Serve completions from vLLM servers, started here or running elsewhere, as one engine."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.engines.server import process as server_process
from llmrl.engines.server.options import ServerOptions
from llmrl.errors import EngineError

if TYPE_CHECKING:
    from llmrl.engines.server.client import VllmClient

RECEIVER = "llmrl.engines.vllm.worker.WeightReceiver"


@dataclass(frozen=True, kw_only=True)
class Server(ServerOptions):
    """Engine `server`: starts the servers that its options ask for, and connects to them."""

    def start(
        self, model: str, *, dtype: str, seed: int, max_model_len: int, stop_token_ids: Sequence[int]
    ) -> VllmClient:
        """Start the engine, and wait until every server answers.

        Raises:
            EngineError: a server did not start (quotes the end of its log) or does not answer.
        """
        from llmrl.engines.server.client import VllmClient

        key = self.api_key or (os.environ.get(server_process.KEY_VARIABLE) if self.urls else secrets.token_urlsafe(32))
        options = replace(self, api_key=key)
        running: list[server_process.ApiServer] = []
        if not self.urls:
            arguments, envs = self._arguments(dtype, seed, max_model_len), options._environments()
            running = server_process.start(model, arguments, envs, self._logs(), self.start_timeout_s)
        try:
            return VllmClient(options, running, dtype=dtype, max_model_len=max_model_len, stop_token_ids=stop_token_ids)
        except BaseException:
            for server in running:
                server.child.stop()
            raise

    def _arguments(self, dtype: str, seed: int, max_model_len: int) -> list[str]:
        import torch

        from llmrl.engines.vllm import perturbation

        on_cpu = not torch.cuda.is_available()
        given = {
            "--dtype": dtype,
            "--seed": seed,
            "--max-model-len": max_model_len,
            "--generation-config": "vllm",  # requests set everything; the model's own defaults would add to them
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
        if on_cpu:
            flags += server_process.whole_prompts(max_model_len)
        if self.critic is not None:
            flags += perturbation.arguments(self.critic, self.critic_beta, self.critic_top_k)
        return [*flags, *self.server_args]

    def _environments(self) -> list[dict[str, str]]:
        base = server_process.environment(
            api_key=self.api_key,
            cpu_kvcache_space=self.cpu_kvcache_space,
            omp_threads=self.omp_threads,
            beside_trainer=True,
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
