"""Workspaces in containers, by Docker or Podman: the same three verbs, found at run time."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from llmrl.errors import SandboxError
from llmrl.sandbox.inmate import Outcome
from llmrl.sandbox.isolation import Limits
from llmrl.sandbox.workspace import LIMITS, RESULTS, ROOT, Executed
from llmrl.swe.tree import ChangeError, inside

ENGINES = ("docker", "podman")
LOOK_S = 20.0  # for the engine to answer at all
START_S = 600.0  # an image may have to be loaded
OUTPUT = LIMITS.output_kb << 10  # bytes of each stream that are kept
FILE_MB = 64  # of a file that is read, and of a program's results
WAITS = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"
"""The container's first process: no signal of a program ends it, and it collects what programs leave behind."""
END_ALL = r"""
kill -9 -1 2>/dev/null
{ read -r line < /proc/1/stat; } 2>/dev/null
set -- ${line##*) }
first=$4
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  left=
  for stat in /proc/[0-9]*/stat; do
    pid=${stat#/proc/}; pid=${pid%/stat}
    { read -r line < "$stat"; } 2>/dev/null || continue
    name=${line#*(}; name=${name%)*}
    set -- ${line##*) }
    case "$1 $4 $pid" in Z*|X*|*" $first "*|*" $$") ;; *) left="$left $pid($name)" ;; esac
  done
  test -z "$left" && exit 0
  sleep 0.1
done
echo "$left" >&2
exit 1
"""
"""Ends every program but the first process and its own: status 1 and their names where some live on after 2 s.

The builtin `kill` says nothing of those that it may not end, so the table of processes is read: the fourth field behind
a name is the session, and no program can join that of the first process.
"""


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
    made: bool = field(init=False, default=False)  # `root` is a new folder: the image has none
    _engine: str = field(init=False)

    @property
    def packages(self) -> Sequence[str]:
        return ()

    def __post_init__(self) -> None:
        self._engine = engine()
        self._start()
        if self._inside(["true"], b"", LOOK_S).code != 0:  # the image has no such folder
            self.close()
            self._start("--volume", self.root)
            self.made = True

    def _start(self, *more: str) -> None:
        limits = self.options.limits
        words = [self._engine, "run", "--detach", "--rm", "--name", self.name, "--network", "none", *more]
        words += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", f"{limits.memory_mb}m"]
        words += ["--pids-limit", str(limits.processes), "--entrypoint", "sh"]
        words += ["--user", self.options.user] if self.options.user else []
        done = _called([*words, self.options.image, "-c", WAITS], START_S)
        if done.kind != "exited" or done.code != 0:
            said = done.stderr.decode(errors="replace").strip()[-400:]
            raise SandboxError(
                f"{self._engine} does not start {self.options.image}: {said or done.reason}; is it there?"
            )

    def exec(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float | None = None) -> Executed:
        """Run a program in the container, and end all that it left; its results are read from a file there.

        Raises:
            SandboxError: something that it left could not be ended; the container is removed with it.
        """
        wall = self.options.limits.wall_s if timeout_s is None else timeout_s
        words = [self.options.python if argv[0] == "python" else argv[0], *argv[1:]]
        file = f"/tmp/llmrl-{secrets.token_hex(8)}"
        wanted = RESULTS in argv
        words = ["3" if word == RESULTS else word for word in words]
        inner = f"exec timeout --kill-after=5 {wall:g} {shlex.join(words)}" + (f" 3>{file}" if wanted else "")
        outcome = self._inside(["sh", "-c", inner], stdin, wall + 10.0, wall)
        self._end_programs()
        results = b""
        if wanted:
            results = self._inside(["sh", "-c", f"cat {file}; rm -f {file}"], b"", LOOK_S, most=FILE_MB << 20).stdout
        return Executed(outcome, results)

    def _end_programs(self) -> None:
        """End all that a program left, or remove the container: what lives on could change what is read next."""
        done = self._inside(["sh", "-c", END_ALL], b"", LOOK_S)
        if done.kind == "exited" and done.code == 0:
            return
        self.close()
        told = (done.stderr or done.stdout).decode(errors="replace").strip()[-400:]
        raise SandboxError(
            f"container {self.name} of {self.options.image}: what a program left there could not be ended: "
            f"{told or done.reason}; the container was removed, and nothing was judged in it"
        )

    def read(self, path: str) -> bytes:
        done = self._inside(["cat", "--", self._place(path)], b"", LOOK_S, most=FILE_MB << 20)
        if done.kind == "output":
            raise ChangeError("too_long", f"{path}: longer than {FILE_MB} MB")
        if done.code != 0:
            raise FileNotFoundError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def write(self, path: str, data: bytes) -> None:
        self.put({path: data.decode("utf-8", "surrogateescape")})

    def put(self, changes: Mapping[str, str | None]) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as made:
            for path, text in changes.items():
                if text is not None:
                    data = text.encode("utf-8", "surrogateescape")
                    member = tarfile.TarInfo(inside(path))
                    member.size, member.mode = len(data), 0o644
                    made.addfile(member, io.BytesIO(data))
        gone = [inside(path) for path, text in changes.items() if text is None]
        script = 'for path; do test -f "$path" || exit 9; done; rm -f -- "$@"; tar -x --no-same-owner -f -'
        done = self._inside(["sh", "-c", script, "sh", *gone], archive.getvalue(), START_S)
        if done.code != 0:
            kind: Literal["not_found", "outside"] = "not_found" if done.code == 9 else "outside"
            raise ChangeError(kind, f"files cannot be written: {done.stderr.decode(errors='replace').strip() or gone}")

    def mark(self, path: str) -> tuple[int, ...] | None:
        done = self._inside(["stat", "-c", "%i %s %Z", "--", self._place(path)], b"", LOOK_S)
        return tuple(map(int, done.stdout.split())) if done.code == 0 else None

    def close(self) -> None:
        _called([self._engine, "rm", "--force", "--volumes", self.name], LOOK_S)

    def _place(self, path: str) -> str:
        return f"{self.root}/{inside(path)}"

    def _inside(
        self, words: Sequence[str], stdin: bytes, seconds: float, limit_s: float | None = None, most: int = OUTPUT
    ) -> Outcome:
        command = [self._engine, "exec", "--interactive", "--workdir", self.root, self.name, *words]
        return _called(command, seconds, stdin, limit_s, most)


def _called(
    words: Sequence[str], seconds: float, stdin: bytes = b"", limit_s: float | None = None, most: int = OUTPUT
) -> Outcome:
    """Run the engine's client; `timeout` inside ends with 124, which is a timeout here, too.

    Output beyond `most` bytes is read and forgotten, so that no program fills the memory.
    """
    start = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as process, ThreadPoolExecutor(3) as pool:
        feeding = pool.submit(_feed, process.stdin, stdin)
        reading = [pool.submit(_drain, stream, most) for stream in (process.stdout, process.stderr)]
        late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
        feeding.result()
        (out, cut), (err, _) = (each.result() for each in reading)
    code = process.returncode
    timed = limit_s is not None and code in (124, 137) and time.monotonic() - start >= limit_s
    kind: Any = "timeout" if late or timed else "output" if cut else "exited"
    return Outcome(kind, 124 if late else code, out, err, time.monotonic() - start, limit_s or seconds)


def _feed(stream: IO[bytes] | None, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it ended before it had read all
        assert stream is not None
        stream.write(data)
        stream.close()


def _drain(stream: IO[bytes] | None, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes, and whether more came."""
    assert stream is not None
    kept = stream.read(most)
    cut = False
    while stream.read(1 << 16):
        cut = True
    return kept, cut
