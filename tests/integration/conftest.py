"""Fixtures of integration tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmrl.engines.server.process import free_ports

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two threads on tiny tensors wait for each other: test_invariance took 150 s with two, 11 s with one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Served:
    """`llmrl serve-reward` in a process, which can be killed and started again at the same place."""

    def __init__(self, folder: Path, spec: str, *arguments: str) -> None:
        self.log = folder / "server.log"
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "llmrl", "serve-reward", spec, "--port", str(self.port), *arguments]
        self.env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONUNBUFFERED": "1"}
        self.start()

    def start(self) -> None:
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=subprocess.STDOUT, env=self.env, cwd=ROOT, start_new_session=True
            )

    def ready(self) -> dict[str, Any]:
        """Wait until it answers; its report on its health."""
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            try:
                found: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=5.0, trust_env=False).json()
                return found
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text()[-3000:])

    def kill(self) -> None:
        """As a machine that dies would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start a reward server; whatever is left of it is killed after the test."""
    started: list[Served] = []

    def start(spec: str, *arguments: str) -> Served:
        started.append(Served(tmp_path, spec, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.kill()
