"""A folder in which untrusted programs work: exec, read, write, on this machine behind the sandbox's walls."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from llmrl.errors import SandboxError
from llmrl.sandbox import namespaces
from llmrl.sandbox.cleanup import remove
from llmrl.sandbox.inmate import WARDEN, Outcome, Program
from llmrl.sandbox.interpreter import ours
from llmrl.sandbox.isolation import Level, Limits, Mount
from llmrl.sandbox.run import Sandbox
from llmrl.swe import tree
from llmrl.swe.tree import ChangeError

ROOT = "/testbed"  # where programs see the folder, as in SWE-bench's images
RESULTS = "{results}"  # in a command line: the number of the descriptor for results
PYTEST = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
LIMITS = Limits(
    wall_s=60.0, cpu_s=60.0, memory_mb=2048, file_mb=64, files=4096, processes=64, open_files=256, output_kb=4096
)


@dataclass(frozen=True, slots=True)
class Executed:
    """End of a program, and the bytes that it wrote to its descriptor of results."""

    outcome: Outcome
    results: bytes = b""

    @property
    def printed(self) -> str:
        """Standard output, then standard error."""
        return (self.outcome.stdout + self.outcome.stderr).decode(errors="replace")


class Workspace(Protocol):
    """A folder, and programs that work in it. Paths of `read` and `write` are below the folder."""

    root: str  # where programs see it

    @property
    def packages(self) -> Sequence[str]:
        """Folders of packages, as programs see them, that Python does not know by itself."""
        ...

    def exec(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float | None = None) -> Executed:
        """Run a program in the folder to its end, or to that of its time; nothing that it started lives on."""
        ...

    def read(self, path: str) -> bytes:
        """Bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            ChangeError: its path leads out of the folder, or to no file.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """Replace a file; folders on the way are made.

        Raises:
            ChangeError: its path leads out of the folder, or to no file.
        """
        ...

    def put(self, changes: Mapping[str, str | None]) -> None:
        """Replace these files by path, all of them or none, and delete those whose text is None.

        Raises:
            ChangeError: a path leads out of the folder, or to no file; a file to delete is not there.
        """
        ...

    def mark(self, path: str) -> tuple[int, ...] | None:
        """Inode, size and time of change of a file, which no program can set; None where there is none."""
        ...

    def close(self) -> None:
        """Remove it; safe to call twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """Options of workspaces on this machine: the walls, the limits, and the environment of Python.

    Without `environment` programs run by llmrl's interpreter, with the standard library and `packages` of llmrl's own
    environment. A folder is bound at its own path, read-only: a virtual environment of the repository, small, for
    what is bound need not be copied but must be searched at each import.
    """

    environment: str | None = None  # a folder with bin/python
    packages: Sequence[str] = PYTEST  # without an environment
    limits: Limits = LIMITS
    min_level: Level = "unshare"  # weaker walls are refused; those below have no root of their own
    level: Level | None = None  # exactly these walls; None: the strongest that work here

    def __post_init__(self) -> None:
        if self.environment is not None and not Path(self.environment, "bin", "python").exists():
            raise ValueError(f"environment {self.environment!r}: no bin/python there; expected a virtual environment")

    @property
    def sandbox(self) -> Sandbox:
        """The walls, without a folder."""
        packages = () if self.environment else tuple(self.packages)
        return Sandbox(self.min_level, self.level, self.limits, packages, self.mounts())

    def mounts(self) -> tuple[Mount, ...]:
        """The environment, and the interpreter that it was made of."""
        if self.environment is None:
            return ()
        base = interpreter_of(Path(self.environment))
        return tuple(
            Mount(folder=place, inside=place) for place in dict.fromkeys([*base, os.path.abspath(self.environment)])
        )

    def python(self) -> str:
        """The interpreter's path inside."""
        if self.environment is not None:
            return str(Path(os.path.abspath(self.environment), "bin", "python"))
        return namespaces.inside(ours(tuple(self.packages)))[0]

    def python_path(self) -> list[str]:
        """Folders of packages that Python does not know by itself."""
        return [] if self.environment else ["/packages"]


@dataclass
class LocalWorkspace:
    """A temporary folder of this machine, removed in the end. Programs see it as `root`, and nothing else of ours."""

    options: LocalOptions = field(default_factory=LocalOptions)
    root: str = ROOT
    opened: bool = False  # to the users that programs become; set False after writing to `folder`
    _home: str = field(init=False)

    def __post_init__(self) -> None:
        self._home = tempfile.mkdtemp(prefix="llmrl-work-")  # nobody else enters
        WARDEN.watch(self._home)
        os.mkdir(self.folder)

    @property
    def packages(self) -> Sequence[str]:
        return self.options.python_path()

    @property
    def folder(self) -> str:
        """Its place on the host."""
        return f"{self._home}/tree"

    def exec(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float | None = None) -> Executed:
        """Run a program; a first word `python` is the environment's.

        Raises:
            SandboxError: it cannot be run behind such walls here.
        """
        self.open()
        options, sandbox = self.options, self.options.sandbox
        wall = options.limits.wall_s if timeout_s is None else timeout_s
        limits = replace(sandbox.limits, wall_s=wall, cpu_s=min(wall, options.limits.cpu_s))
        mounts = (*sandbox.mounts, Mount(folder=self.folder, inside=self.root, writable=True))
        with open(os.memfd_create("results", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b") as results:
            fcntl.fcntl(results, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # what was written stays
            end = os.open(f"/proc/self/fd/{results.fileno()}", os.O_WRONLY | os.O_APPEND)
            with os.fdopen(end, "ab") as channel:
                words = [str(end) if word == RESULTS else word for word in argv]
                program = Program([*self._entered(), *self._named(words)], stdin, channel)
                outcome = replace(sandbox, limits=limits, mounts=mounts).together(program)[0]
            results.seek(0)
            return Executed(outcome, results.read())

    def open(self) -> None:
        """Let the users that programs become change what is new in the folder.

        Raises:
            ChangeError: `malformed`: programs left folders that are nested too deep.
        """
        if not self.opened:
            try:
                open_to_all(self.folder)
            except RecursionError:
                raise ChangeError("malformed", "folders are nested too deep; expected fewer than 900 levels") from None
            self.opened = True

    def read(self, path: str) -> bytes:
        try:
            return tree.Folder(Path(self.folder))[path].encode("utf-8", "surrogateescape")
        except KeyError:
            raise FileNotFoundError(path) from None

    def write(self, path: str, data: bytes) -> None:
        self.put({path: data.decode("utf-8", "surrogateescape")})

    def put(self, changes: Mapping[str, str | None]) -> None:
        tree.write(Path(self.folder), changes)
        self.opened = False

    def mark(self, path: str) -> tuple[int, ...] | None:
        self.open()  # which changes a file, too
        try:
            status = os.lstat(f"{self.folder}/{path}")
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_ctime_ns

    def close(self) -> None:
        with contextlib.suppress(RecursionError):
            shutil.rmtree(self._home, ignore_errors=True)
        if os.path.isdir(self._home):  # folders of other users without rights, or thousands in each other
            remove(self._home)
        WARDEN.release(self._home)

    def _entered(self) -> list[str]:
        """Words that enter the folder behind the fence: nothing of it is on Python's path before."""
        options = self.options
        path = [self.root, *options.python_path()]
        variables: Mapping[str, str] = {
            "PATH": f"{Path(options.python()).parent}:/usr/bin:/bin",
            "PYTHONPATH": ":".join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return ["/usr/bin/env", "-C", self.root, *(f"{name}={value}" for name, value in variables.items())]

    def _named(self, words: Sequence[str]) -> list[str]:
        return [self.options.python(), *words[1:]] if words[0] == "python" else list(words)


def open_to_all(root: str) -> None:
    """Let every user read and write a tree that is in a folder of ours: as root, programs run as other users."""
    os.chmod(root, 0o777)
    for _, folders, names, here in os.fwalk(root, follow_symlinks=False):
        for name in (*folders, *names):
            mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
            wanted = stat.S_IMODE(mode) | (0o777 if stat.S_ISDIR(mode) else 0o666)
            if (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and wanted != stat.S_IMODE(mode):
                os.chmod(name, wanted, dir_fd=here)


def interpreter_of(environment: Path) -> list[str]:
    """Folders of the interpreter that a virtual environment was made of; none where the system's or llmrl's will do.

    Raises:
        SandboxError: the environment names an interpreter that is gone.
    """
    config = environment / "pyvenv.cfg"
    if not config.exists():  # whole in itself, as Conda's are
        return []
    lines = (line.partition("=") for line in config.read_text(encoding="utf-8").splitlines())
    home = next((value.strip() for key, _, value in lines if key.strip() == "home"), "")
    prefix = Path(home).resolve().parent
    if not Path(home).is_dir():
        raise SandboxError(f"{config}: its interpreter's folder {home!r} is gone; make the environment anew")
    if prefix in (Path("/usr"), Path("/"), ours().prefix):
        return []
    return [str(prefix)]
