"""Options of the engine `server`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrl.clients.addresses import require_url
from llmrl.clients.bearer import read_key
from llmrl.engines.server.process import names_key
from llmrl.recipe.ranges import Amount, Count, PositiveShare, Seconds


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of servers started here or running elsewhere; options of vLLM keep its names."""

    servers: int = 1  # started here, one after another on free loopback ports, and stopped whatever happens
    urls: Sequence[str] = ()  # servers that run already, such as http://node7:8000; then none is started
    # Demanded by every server. None: a random one for servers started here, and for urls that of $LLMRL_API_KEY.
    api_key: str | None = field(default=None, repr=False)
    served_model_name: str | None = None  # there; None: the first that they name
    sync_dir: str | None = None  # folder for weights on their way; None: /dev/shm where it has room
    timeout_s: Seconds = 600.0  # of one completion, retries included, and of one change of weights
    in_flight_updates: bool = False  # new weights reach requests in their midst, instead of waiting until they end
    retries: int = 3  # after a lost connection or a 5xx answer, on another server where there is one
    start_timeout_s: Seconds = 300.0
    log_dir: str | None = None  # for server-0.log, ...; None: a temporary folder, removed by close
    enforce_eager: bool | None = None  # None: eager on a CPU, where compiling costs 45 s, compiled on a GPU
    gpu_memory_utilization: PositiveShare = 0.9
    tensor_parallel_size: Count = 1
    devices: Sequence[str] = ()  # CUDA_VISIBLE_DEVICES of each server started here
    enable_sleep_mode: bool = False  # for servers that share the trainer's GPU
    cpu_kvcache_space: Count = 1  # GiB, on a CPU
    omp_threads: Count | None = None  # of each server, on a CPU
    critic: str | None = None  # a folder final/critic, whose Q moves the logits (ILQL); of servers started here
    critic_beta: Amount = 4.0  # by how much: logits + critic_beta * (Q - V)
    critic_top_k: int = 50  # among so many of the policy's likeliest tokens; 0: among all
    server_args: Sequence[str] = ()  # anything else that vLLM's server takes

    def __post_init__(self) -> None:
        for url in self.urls:
            require_url(url, "http://node7:8000", name="urls:")
        if not self.urls and self.servers < 1:
            raise ValueError("servers: expected at least 1, or urls of servers that run")
        if self.devices and len(self.devices) != self.servers:
            raise ValueError(f"devices: {len(self.devices)} entries for {self.servers} servers")
        if self.timeout_s <= 0 or self.start_timeout_s <= 0 or self.retries < 0:
            raise ValueError("timeout_s and start_timeout_s must be above 0, retries at least 0")
        if self.critic is not None and self.urls:
            raise ValueError("critic: servers at urls run already; expected the critic among their own arguments")
        if self.critic_top_k < 0:
            raise ValueError(f"critic_top_k {self.critic_top_k}: expected at least 0")
        if names_key(self.server_args):
            raise ValueError("server_args: found --api-key, which others can read there; set api_key instead")
        if self.api_key is not None:
            read_key(self.api_key, where="api_key")

    @property
    def concurrent(self) -> bool:
        """Tell whether it can generate while the trainer learns: not where it gives its memory to the trainer."""
        return not self.enable_sleep_mode
