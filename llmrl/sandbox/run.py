"""Run untrusted code: behind the strongest walls that this machine offers, within limits, and leave nothing behind."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import IO

from llmrl.errors import SandboxError
from llmrl.sandbox.fence import fence_version
from llmrl.sandbox.inmate import Inmate, Outcome, Program, started
from llmrl.sandbox.isolation import LEVELS, Level, Limits, Mount
from llmrl.sandbox.landlock import OLDEST, SIGNALS

TICK_S = 0.1  # between looks at the memory and the files
PROBE = Limits(wall_s=20.0, cpu_s=5.0)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sandbox:
    """Runs programs that may be hostile. Usable from any thread; each program gets walls and a user of its own.

    Raises:
        SandboxError: when it is used: the machine offers no level from `min_level` on, or not the chosen one.
    """

    min_level: Level = "unshare"  # weaker walls are refused
    level: Level | None = None  # exactly these walls; None: the strongest that work here
    limits: Limits = field(default_factory=Limits)
    packages: tuple[str, ...] = ()  # of llmrl's environment, that programs may import
    mounts: tuple[Mount, ...] = ()  # folders of the host that programs see

    def in_force(self) -> Level:
        """The level at which programs run here; the first call tries them out, which takes a moment."""
        for level in (self.level,) if self.level else reversed(LEVELS):
            if LEVELS.index(level) < LEVELS.index(self.min_level):
                break
            if not probe(level):
                return level
        tried = [name for name in LEVELS if LEVELS.index(name) >= LEVELS.index(self.level or self.min_level)]
        told = "; ".join(f"{name}: {probe(name) or f'below {self.min_level}'}" for name in tried)
        less = "accept less with min_level" + (", which this kernel fences in" if fence_version() >= SIGNALS else "")
        raise SandboxError(
            f"untrusted code must run at level {self.level or self.min_level} or above, which this machine does not "
            f"offer ({told}); install bubblewrap, or {less}, after reading docs/sandbox.md"
        )

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> Outcome:
        """Run one program to its end, or to that of its time."""
        return self.together(Program(argv, stdin))[0]

    def together(self, *programs: Program) -> list[Outcome]:
        """Run several at once, each behind its own walls, until the first of them ends; then stop the rest."""
        level = self.in_force()
        with contextlib.ExitStack() as stack:
            inmates = [
                stack.enter_context(started(level, self.limits, program, self.packages, self.mounts))
                for program in programs
            ]
            return _watch(inmates)


def available() -> dict[Level, str]:
    """For each level: empty if it works here, else why it does not."""
    return {level: probe(level) for level in LEVELS}


@cache
def probe(level: Level) -> str:
    """Try a level out: empty if it works here, else why it does not."""
    if level == "uid" and os.geteuid() != 0:
        return "only root can become another user"
    if level == "subprocess" and os.geteuid() == 0:
        return "root is bound by no limit on processes"
    try:
        with started(level, PROBE, Program(["python", "-c", "import json; print('in')"])) as inmate:
            outcome = _watch([inmate])[0]
    except (SandboxError, OSError) as error:
        return str(error)
    if outcome.stdout.strip() != b"in":
        said = outcome.stderr.decode(errors="replace").strip().splitlines() or [outcome.reason]
        return said[-1]
    log.info("sandbox: level %s works on this machine", level)
    if fence_version() < {"subprocess": SIGNALS, "uid": OLDEST}.get(level, 0):
        log.warning("sandbox: Linux is too old to fence level %s in; docs/sandbox.md says what stays open", level)
    return ""


def _watch(inmates: Sequence[Inmate]) -> list[Outcome]:
    """Take what they write and guard their limits until the first has ended; then end the others."""
    first = inmates[0]
    deadline = first.start + first.limits.wall_s
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for inmate in inmates:
            for name in inmate.outputs:
                pipe: IO[bytes] = getattr(inmate.process, name)
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, (inmate, name))
            if inmate.info is not None:
                selector.register(inmate.info, selectors.EVENT_READ, (inmate, "info"))
        pidfd = os.pidfd_open(first.process.pid)
        stack.callback(os.close, pidfd)
        selector.register(pidfd, selectors.EVENT_READ, None)
        look = time.monotonic() + TICK_S
        while not first.ended:
            for key, _ in selector.select(min(max(deadline - time.monotonic(), 0.0), TICK_S)):
                if key.data is not None and not _taken(*key.data):
                    selector.unregister(key.fileobj)
            now = time.monotonic()
            if now >= deadline:
                for inmate in inmates:
                    inmate.stop("timeout")
            elif now >= look:
                for inmate in inmates:
                    if why := inmate.excess():
                        inmate.stop(why)
                look = time.monotonic() + TICK_S
        for name in first.outputs:
            _taken(first, name)
        for inmate in inmates:  # the first has ended; what it left has not
            inmate.stop("stopped")
    return [inmate.outcome() for inmate in inmates]


def _taken(inmate: Inmate, name: str) -> bool:
    """Read what is there; False at the end of it. Past the limit the program ends."""
    if name == "info":
        inmate.meet_first()
        return False
    most = inmate.limits.output_kb << 10
    pipe: IO[bytes] = getattr(inmate.process, name)
    while chunk := _read(pipe):
        inmate.outputs[name] += chunk[: most - len(inmate.outputs[name])]
        if len(inmate.outputs[name]) >= most:
            inmate.stop("output")
            return False
    return chunk is None


def _read(pipe: IO[bytes]) -> bytes | None:
    """Some bytes; empty at the end; None where nothing is there yet."""
    try:
        return os.read(pipe.fileno(), 1 << 16)
    except BlockingIOError:
        return None
