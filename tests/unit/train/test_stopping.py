"""Signals that ask a run to end: what they do at which time, and in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmrl.errors import EngineError, Stopped
from llmrl.train.stopping import Stopping

ALONE = SimpleNamespace(num_processes=1)
ROOT = Path(__file__).parents[3]


def kill(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_outside_of_steps_a_signal_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM"), Stopping():
        kill()
    assert signal.getsignal(signal.SIGTERM) is before


def test_within_a_step_it_is_noted_and_told_between_micro_batches() -> None:
    with Stopping() as stopping:
        stopping.step_begins(ALONE, droppable=True)
        stopping.check()
        kill(signal.SIGHUP)
        kill(signal.SIGTERM)  # the first counts
        with pytest.raises(Stopped, match="SIGHUP"):
            stopping.check()
        stopping.commit()
        stopping.check()
        assert stopping.step_ends() == signal.SIGHUP
        with pytest.raises(Stopped):
            stopping.steps_end()


def test_a_step_that_cannot_be_dropped_is_finished() -> None:
    with Stopping() as stopping:
        stopping.step_begins(ALONE, droppable=False)
        kill()
        with stopping.interrupting():
            stopping.check()
        assert stopping.step_ends() == signal.SIGTERM


def test_errors_of_what_got_the_signal_too_are_the_stop() -> None:
    def broken() -> None:
        raise EngineError("it has ended")

    with Stopping() as stopping:
        stopping.step_begins(ALONE, droppable=True)
        with pytest.raises(EngineError), stopping.interrupting():
            broken()
        kill()
        with pytest.raises(Stopped), stopping.interrupting():
            broken()


def test_without_handlers_nothing_is_asked() -> None:
    stopping = Stopping()
    stopping.step_begins(ALONE, droppable=True)
    stopping.check()
    assert stopping.step_ends() == 0


def run(code: str) -> subprocess.CompletedProcess[str]:
    head = "import os, signal, time\nfrom llmrl.train.stopping import Stopping\n"
    return subprocess.run(
        [sys.executable, "-c", head + code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_nohup_is_respected() -> None:
    ended = run(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with Stopping():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('lives on')"
    )
    assert (ended.returncode, ended.stdout) == (0, "lives on\n")


def test_the_grace_ends_a_step_that_does_not() -> None:
    ended = run(
        "stopping = Stopping()\n"
        "stopping.grace_s, stopping.too_late = 0.3, lambda: print('told', flush=True)\n"
        "with stopping:\n"
        "    stopping.step_begins(None, droppable=False)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)"
    )
    assert (ended.returncode, ended.stdout) == (143, "told\n")
    assert ended.stderr.startswith("llmrl: SIGTERM: the step at hand did not end within train.stop_grace_s (0.3 s)")
