"""Workspaces in containers, by Docker or Podman: the same three verbs, found at run time."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.errors import SandboxError
from llmrl.sandbox.inmate import Outcome
from llmrl.sandbox.isolation import Limits
from llmrl.sandbox.workspace import LIMITS, RESULTS, ROOT, Executed
from llmrl.swe.tree import ChangeError, inside

ENGINES = ("docker", "podman")
LOOK_S = 20.0  # for the engine to answer at all
START_S = 600.0  # an image may have to be loaded


def engine() -> str:
    """The first container engine whose service answers.

    Raises:
        SandboxError: there is none; names what each lacks.
    """
    reasons = []
    for name in ENGINES:
        if shutil.which(name) is None:
            reasons.append(f"{name} is not installed")
            continue
        done = _called([name, "info"], LOOK_S)
        if done.kind == "exited" and done.code == 0:
            return name
        last = done.stderr.decode(errors="replace").strip().splitlines() or [done.reason]
        reasons.append(f"{name}: {last[-1]}")
    raise SandboxError(
        f"no container engine answers ({'; '.join(reasons)}); start one, or leave `container` out: then programs run "
        "in the sandbox of this machine"
    )


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """Options of workspaces in containers; without network, rights, or more than these limits."""

    image: str
    limits: Limits = LIMITS
    user: str = ""  # as the engine takes it; "": the image's own
    python: str = "python"  # inside


@dataclass
class ContainerWorkspace:
    """A container of an image, with the project in `root`; removed in the end.

    Raises:
        SandboxError: no engine answers, or it does not start the image.
    """

    options: ContainerOptions
    root: str = ROOT
    name: str = field(default_factory=lambda: f"llmrl-{os.getpid()}-{secrets.token_hex(6)}")
    _engine: str = field(init=False)

    def __post_init__(self) -> None:
        self._engine = engine()
        limits = self.options.limits
        words = [self._engine, "run", "--detach", "--rm", "--init", "--name", self.name, "--network", "none"]
        words += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", f"{limits.memory_mb}m"]
        words += ["--pids-limit", str(limits.processes), "--workdir", self.root]
        words += ["--user", self.options.user] if self.options.user else []
        done = _called([*words, self.options.image, "sleep", "infinity"], START_S)
        if done.kind != "exited" or done.code != 0:
            said = done.stderr.decode(errors="replace").strip()[-400:]
            raise SandboxError(
                f"{self._engine} does not start {self.options.image}: {said or done.reason}; is it there?"
            )

    def exec(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float | None = None) -> Executed:
        """Run a program in the container; its results go through a file there, which is read and removed."""
        wall = self.options.limits.wall_s if timeout_s is None else timeout_s
        words = [self.options.python if argv[0] == "python" else argv[0], *argv[1:]]
        file = f"/tmp/llmrl-{secrets.token_hex(8)}"
        wanted = RESULTS in argv
        words = ["3" if word == RESULTS else word for word in words]
        inner = f"exec timeout --kill-after=5 {wall:g} {shlex.join(words)}" + (f" 3>{file}" if wanted else "")
        outcome = self._inside(["sh", "-c", inner], stdin, wall + 10.0, wall)
        results = b""
        if wanted:
            results = self._inside(["sh", "-c", f"cat {file}; rm -f {file}"], b"", LOOK_S).stdout
        return Executed(outcome, results)

    def read(self, path: str) -> bytes:
        done = self._inside(["cat", "--", self._place(path)], b"", LOOK_S)
        if done.code != 0:
            raise FileNotFoundError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def write(self, path: str, data: bytes) -> None:
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
        done = self._inside(["sh", "-c", script, "sh", self._place(path)], data, LOOK_S)
        if done.code != 0:
            raise ChangeError("outside", f"{path!r}: cannot be written: {done.stderr.decode(errors='replace').strip()}")

    def close(self) -> None:
        _called([self._engine, "rm", "--force", self.name], LOOK_S)

    def _place(self, path: str) -> str:
        return f"{self.root}/{inside(path)}"

    def _inside(self, words: Sequence[str], stdin: bytes, seconds: float, limit_s: float | None = None) -> Outcome:
        command = [self._engine, "exec", "--interactive", "--workdir", self.root, self.name, *words]
        return _called(command, seconds, stdin, limit_s)


def _called(words: Sequence[str], seconds: float, stdin: bytes = b"", limit_s: float | None = None) -> Outcome:
    """Run the engine's client; `timeout` inside ends with 124, which is a timeout here, too."""
    start = time.monotonic()
    ended: Any = "exited"
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=seconds, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        ended, code, out, err = "timeout", 124, late.stdout or b"", late.stderr or b""
    if limit_s is not None and code in (124, 137) and time.monotonic() - start >= limit_s:
        ended = "timeout"
    most = LIMITS.output_kb << 10
    return Outcome(ended, code, out[:most], err[:most], time.monotonic() - start, limit_s or seconds)
