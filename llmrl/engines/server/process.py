"""vLLM's OpenAI server as a child process: its command, its environment, and waiting until it answers."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from llmrl.engines.server.child_process import Child
from llmrl.errors import EngineError

KEY_VARIABLE = "LLMRL_API_KEY"  # hands a server its key: an argument could be read in the list of processes
CPU_BATCHED_TOKENS = 8192  # of a step on a CPU, or as many as a prompt may have
_PORT_TRIES = 3
LAUNCHED = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "ROLE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Variables that a launcher of distributed training sets: with them a child would join our process group."""


def command(model: str, host: str, port: int, *arguments: str) -> list[str]:
    """Command that starts vLLM's server on `model`; `vllm serve` misses its own package metadata in the CPU build."""
    server = [sys.executable, "-m", "llmrl.engines.server.vllm_app"]
    return [*server, "--model", model, "--host", host, "--port", str(port), *arguments]


def whole_prompts(max_model_len: int | None) -> list[str]:
    """Arguments of a server on a CPU, which takes prompts whole.

    A prompt cut in two makes vLLM turn a seeded generator back, which CPU generators cannot ("does not use offset"):
    the server ends.
    """
    batched = [] if max_model_len is None else ["--max-num-batched-tokens", str(max(max_model_len, CPU_BATCHED_TOKENS))]
    return ["--no-enable-chunked-prefill", *batched]


def environment(
    *, api_key: str | None, cpu_kvcache_space: int, omp_threads: int | None = None, beside_trainer: bool = False
) -> dict[str, str]:
    """Environment of a server: ours, with its own settings.

    Args:
        api_key: demanded by every route but /health; None lets everyone in.
        cpu_kvcache_space: GiB for keys and values, on a CPU.
        omp_threads: of a server on a CPU; None leaves OMP_NUM_THREADS as it is.
        beside_trainer: open the routes that change weights, and bind no threads to cores.
    """
    env = {k: v for k, v in os.environ.items() if k not in LAUNCHED and not k.startswith("TORCHELASTIC_")}
    for name in (KEY_VARIABLE, "VLLM_API_KEY"):  # ours for other servers
        env.pop(name, None)
    if api_key is not None:
        env[KEY_VARIABLE] = api_key
    env.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # the colocated engine switches it off; a server needs it
    package_root = str(Path(__file__).parents[3])  # the server and its worker extension are imported there
    env["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [env.get("PYTHONPATH")])])
    env["VLLM_CPU_KVCACHE_SPACE"] = str(cpu_kvcache_space)
    env.setdefault(
        "VLLM_CPU_OMP_THREADS_BIND", "nobind"
    )  # bound threads of two servers, or of the trainer, would clash
    env.setdefault("VLLM_NO_USAGE_STATS", "1")
    if omp_threads is not None:
        env["OMP_NUM_THREADS"] = str(omp_threads)
    if beside_trainer:
        env["VLLM_SERVER_DEV_MODE"] = "1"
        env.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # two servers would bind to the same cores
    return env


def names_key(arguments: Sequence[str]) -> bool:
    """Tell whether arguments of vLLM's server, in any spelling that it takes, hold a key."""
    return any(argument.replace("_", "-").startswith("--api-k") for argument in arguments)


def free_ports(number: int) -> list[int]:
    """Find loopback ports that nobody listens on now; they differ from each other."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running server and its address."""

    url: str
    child: Child


def start(
    model: str, arguments: Sequence[str], envs: Sequence[dict[str, str]], logs: Path, limit_s: float
) -> list[ApiServer]:
    """Start one server per environment, on loopback, and wait until each answers.

    Args:
        logs: a folder for `server-0.log`, ...
        limit_s: seconds until all must answer.
    Raises:
        EngineError: one ended or took too long; quotes the end of its log. All are stopped.
    """
    until = time.monotonic() + limit_s
    started: list[ApiServer] = []
    try:
        for i, (port, env) in enumerate(zip(free_ports(len(envs)), envs, strict=True)):
            started.append(_launch(model, arguments, env, port, logs / f"server-{i}.log"))
        for i, env in enumerate(envs):
            started[i] = _until_ready(started[i], model, arguments, env, until)
        return started
    except BaseException:
        for server in started:
            server.child.stop()
        raise


def _launch(model: str, arguments: Sequence[str], env: dict[str, str], port: int, log: Path) -> ApiServer:
    argv = command(model, "127.0.0.1", port, *arguments)
    return ApiServer(f"http://127.0.0.1:{port}", Child(argv, env=env, log=log))


def _until_ready(
    server: ApiServer, model: str, arguments: Sequence[str], env: dict[str, str], until: float
) -> ApiServer:
    """Wait until the server answers; on another port if somebody took the first one while it loaded."""
    for _ in range(_PORT_TRIES):
        if answers(server, until):
            if KEY_VARIABLE in env:
                check_guarded(server)
            return server
        log, code = server.child.log, server.child.poll()
        if code is None or log is None or "address already in use" not in server.child.tail(100).lower():
            break
        server = _launch(model, arguments, env, free_ports(1)[0], log)
    server.child.stop()
    ended = "did not answer in time" if code is None else f"ended with code {code} before it answered"
    raise EngineError(
        f"vLLM's server for {model} {ended}; the end of its log ({server.child.log}):\n{server.child.tail()}\n"
        "fix what it says; where it was only slow, raise engine.start_timeout_s"
    )


def answers(server: ApiServer, until: float) -> bool:
    """Wait until the server is healthy, at most until `until` by `time.monotonic`; False at once where it ended."""
    import httpx

    while time.monotonic() < until and server.child.poll() is None:
        try:
            if httpx.get(f"{server.url}/health", timeout=5.0, trust_env=False).status_code == 200:
                return True
        except httpx.HTTPError:
            pass  # it is still loading
        time.sleep(0.25)
    return False


def check_guarded(server: ApiServer) -> None:
    """Prove that the server, which answers, demands its key.

    Raises:
        EngineError: it answers a request without the key, and was stopped.
    """
    import httpx

    try:
        status = str(httpx.get(f"{server.url}/version", timeout=30.0, trust_env=False).status_code)
    except httpx.HTTPError as error:
        status = f"{type(error).__name__} {error}"
    if status != "401":
        server.child.stop()
        raise EngineError(
            f"{server.url}/version without the key: found {status}; expected 401. It was stopped; is it vLLM 0.31?"
        )
