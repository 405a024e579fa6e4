"""Signals that ask a run to end: ctrl-C, SIGTERM before a machine is taken away; and the ranks' agreement on it.

A signal is noted while steps are taken. What ends them is chosen so that the run can go on exactly:

- Until a step's first optimiser step, the step is dropped: generation is interrupted, a forward pass ends with its
  micro-batch. The state to save is that behind the step before.
- From then on the step is finished, logged and evaluated, and its own state is saved.

Outside the steps, while a run starts or writes its results, the signal ends it at once: there is nothing to save.
A second ctrl-C ends the process wherever it is, unless a launcher sends it: it hands on the first one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from llmrl import aio
from llmrl.errors import LlmrlError, Stopped
from llmrl.run_folder.progress import end_at_once
from llmrl.train.parallel import largest

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Stopping:
    """Handles signals while it is entered as a context manager, in the main thread; else it never asks for anything.

    Every rank enters it, or none: they agree by collective calls.
    """

    def __init__(self) -> None:
        self.grace_s = 120.0  # from the signal to the end of the process at the latest, saved or not
        self.too_late: Callable[[], None] = _nothing  # called where they have passed
        self.droppable = False  # the step at hand can still be dropped as a whole
        self._listens = False
        self._accelerator: Any = None
        self._stepping = False
        self._interrupts = False
        self._number = 0  # of the signal that came; 0: none
        self._timer: threading.Timer | None = None

    def __str__(self) -> str:
        return signal.Signals(self._number).name if self._number else "nothing"

    def __enter__(self) -> Self:
        self._listens = True
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:  # by nohup
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._listens = self._stepping = False
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def step_begins(self, accelerator: Any, droppable: bool) -> None:
        """Note signals from now on, in place of ending at once.

        Args:
            accelerator: of the ranks that agree.
            droppable: what the step changes before its first update can be taken back.
        """
        self._accelerator, self.droppable, self._stepping = accelerator, droppable, True

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal end what is waited for, where the step can be dropped."""
        self._interrupts = self.droppable
        if self._interrupts and self._number:
            aio.interrupt(Stopped(self._number))
        try:
            yield
        except LlmrlError as error:  # engines and graders may have got the signal as well
            if self._interrupts and self._number:
                raise Stopped(self._number) from error
            raise
        finally:
            self._interrupts = False
            aio.uninterrupted()

    def check(self) -> None:
        """Drop the step if any rank was asked to stop, and it can be dropped. Collective.

        Raises:
            Stopped: it is dropped, on every rank.
        """
        if self._listens and self.droppable and (number := largest(self._number, self._accelerator)):
            raise Stopped(number)

    def commit(self) -> None:
        """Say that the step has changed a model, and has to be finished."""
        self.droppable = False

    def step_ends(self) -> int:
        """Number of the signal that any rank got; 0 for none. Collective."""
        self.droppable = False
        return largest(self._number, self._accelerator) if self._listens else 0

    def steps_end(self) -> None:
        """End at once from now on."""
        self._stepping = self.droppable = False
        if self._number:
            raise Stopped(self._number)

    def _handle(self, number: int, _frame: object) -> None:
        if self._number:
            if number == self._number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
                end_at_once(130)
            return
        self._number = number
        self._timer = threading.Timer(self.grace_s, self._end)
        self._timer.daemon = True
        self._timer.start()
        if not self._stepping:
            if not aio.waiting():
                raise Stopped(number)
            aio.interrupt(Stopped(number))
        elif number == signal.SIGINT and os.environ.get("RANK", "0") == "0":
            told = f"llmrl: ctrl-C: saving the run, within {self.grace_s:g} s; ctrl-C again ends it at once, unsaved\n"
            os.write(sys.stderr.fileno(), told.encode())  # print is not for handlers of signals
        if self._interrupts:
            aio.interrupt(Stopped(number))

    def _end(self) -> None:
        try:
            self.too_late()
        finally:
            print(
                f"llmrl: {self}: the step at hand did not end within train.stop_grace_s "
                f"({self.grace_s:g} s), and was not saved",
                file=sys.stderr,
                flush=True,
            )
            os._exit(128 + self._number)


def _nothing() -> None:
    """Do nothing."""
