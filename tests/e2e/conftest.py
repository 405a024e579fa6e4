"""Start the real command line in end-to-end tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 240


class Command:
    """`llmrl ...` or `accelerate launch ... -m llmrl ...` in a process group of its own, its output in a file."""

    def __init__(self, log: Path, arguments: Sequence[str], launch: str | None = None) -> None:
        self.log = log
        launcher = [sys.executable, "-m"]
        if launch is not None:
            config = str(ROOT / "recipes" / "accelerate" / f"{launch}.yaml")
            launcher += ["accelerate.commands.launch", "--config_file", config, "--num_processes", "2"]
            launcher += ["--main_process_port", "0", "-m"]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",  # bits must not depend on how busy the machine is
            "DS_ACCELERATOR": "cpu",
            "PYTHONUNBUFFERED": "1",
        }
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*launcher, "llmrl", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )

    def wait(self) -> str:
        """Its output, once it ended well."""
        try:
            code = self.process.wait(LIMIT_S)
        finally:
            self.kill()
        assert code == 0, self.log.read_text()[-4000:]
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until something is seen to have happened."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL to all of it, as a machine that dies would."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait(LIMIT_S)


def _start(folder: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str, launch: str | None = None) -> Command:
        started.append(Command(folder / f"command-{len(started)}.log", arguments, launch))
        return started[-1]

    yield start
    for command in started:
        command.kill()


@pytest.fixture
def llmrl(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start the command line; whatever is left of it is killed after the test."""
    yield from _start(tmp_path)


@pytest.fixture(scope="module")
def llmrl_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Command]]:
    """The same for the fixtures of a module."""
    yield from _start(tmp_path_factory.mktemp("commands"))
