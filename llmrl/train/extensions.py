"""DeepSpeed's C++ extensions: a folder for this environment, compiled by one process at a time, whoever is killed.

DeepSpeed compiles them when it is first used, through torch, whose lock is a file that outlives a process that is
killed: every later start waits for it in silence. Here the kernel holds the lock, and a file that nobody holds open is
removed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llmrl.errors import TrainingError
from llmrl.run_folder.lock import FolderLock

ON_CPU = "ShareMemCommBuilder"
"""DeepSpeed's builder of what processes on one CPU machine talk through."""
FOLDER = "TORCH_EXTENSIONS_DIR"
"""The environment variable from which torch takes the folder of its extensions."""
TOLD_EVERY_S = 30.0
PATIENCE_S = 3600.0  # of a start, for others that compile; a compile takes minutes


def folder() -> Path:
    """The folder of this environment's extensions: `TORCH_EXTENSIONS_DIR`, or one in the user's cache.

    That one has a name for each environment, versions of torch and DeepSpeed, and kind of processor: a home folder may
    be shared by several machines.
    """
    if given := os.environ.get(FOLDER):
        return Path(given)
    versions = [importlib.metadata.version(name) for name in ("torch", "deepspeed")]
    parts = "\n".join([sys.prefix, *versions, platform.machine(), _processor()])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "llmrl" / "extensions" / hashlib.sha256(parts.encode()).hexdigest()[:16]


def compiled() -> bool:
    """True if what DeepSpeed needs on a CPU is there, and no compile was cut short."""
    return any(folder().glob("*_shm_comm/*_shm_comm.so")) and not any(folder().glob("*/lock"))


def prepare(on_cpu: bool) -> None:
    """Make the folder ready for DeepSpeed in this process, and on a CPU compile and load what DeepSpeed needs there.

    Processes of one launch, and other starts, take turns. A line on standard error says what is compiled, and for whom
    a start waits.

    Raises:
        CheckpointError: the folder cannot be made or written to.
        TrainingError: the extension does not compile, with the compiler's words; or others compile for `PATIENCE_S`.
    """
    place = folder()
    os.environ[FOLDER] = str(place)
    programs = str(Path(sys.executable).parent)  # where ninja is, also while the environment is not activated
    path = os.environ.get("PATH", "")
    if programs not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, [path, programs]))
    main = os.environ.get("LOCAL_RANK", "0") in ("", "0")  # the others of a launch wait for the same
    wait = _Wait()

    def waiting(holder: str) -> None:
        wait.goes_on(f"waiting for {holder}, which compiles or loads DeepSpeed's extensions in {place}", main)

    elsewhere = f"set {FOLDER} to a folder that can be written to"
    with FolderLock(place, "", "compiling.lock", elsewhere=elsewhere, waiting=waiting):
        for extension in sorted(path for path in place.iterdir() if path.is_dir()):
            _unlock(extension, wait)
        if on_cpu:
            _load(place)


def _load(place: Path) -> None:
    """Load the extension for CPUs, compiled where it is not; DeepSpeed finds it loaded then."""
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder(ON_CPU)
    if not hasattr(builder, "NAME") or not builder.is_compatible(False):
        return  # DeepSpeed then goes without
    began = time.monotonic()
    absent = not (place / builder.NAME / f"{builder.NAME}.so").exists()
    if absent:
        _say(
            f"DeepSpeed compiles {builder.NAME}, once for this environment, into {place}; about a minute on two idle "
            "cores, several on busy ones"
        )
    try:
        builder.load(verbose=False)
    except (RuntimeError, ImportError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        cause = next((line for line in lines if "error" in line.lower() and "building extension" not in line), lines[0])
        raise TrainingError(
            f"DeepSpeed's extension {builder.NAME} does not compile: {cause[:300]}; expected a C++ compiler, ninja and "
            f"Python's headers (apt-get install g++ ninja-build python3-dev), and {place} to have room. Training in "
            "one process, and with ddp.yaml, needs none of it"
        ) from error
    if absent:
        _say(f"compiled in {time.monotonic() - began:.0f} s")


def _unlock(extension: Path, wait: _Wait) -> None:
    """Remove torch's lock of an extension if the process that made it is gone; wait while it, or its compiler, runs."""
    lock = extension / "lock"
    while owners := list(_owners(extension)):
        wait.goes_on(f"waiting for process {owners[0]}, which compiles in {extension}")
        time.sleep(0.2)
    if lock.exists():
        _say(f"removed {lock}: the process that compiled there was ended before it was done")
        lock.unlink(missing_ok=True)


def _owners(extension: Path) -> Iterator[int]:
    """Processes that hold the lock open, or work in the folder as ninja and the compiler do."""
    own = extension.resolve()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if (process / "cwd").readlink() == own:
                yield int(process.name)
                continue
            if any(handle.readlink() == own / "lock" for handle in (process / "fd").iterdir()):
                yield int(process.name)


def _processor() -> str:
    """The instructions that the processor knows, as Linux lists them; "" elsewhere."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    return ""


class _Wait:
    """A start's waiting for others, up to `PATIENCE_S`: its reason is told at once, and again while it stays true."""

    def __init__(self) -> None:
        self._end = time.monotonic() + PATIENCE_S
        self._last = -math.inf

    def goes_on(self, line: str, wanted: bool = True) -> None:
        """Tell the reason if that is wanted and due.

        Raises:
            TrainingError: it has taken too long.
        """
        now = time.monotonic()
        if now >= self._end:
            raise TrainingError(
                f"given up after {PATIENCE_S:g} s of {line}; end that process, or set {FOLDER} to another folder"
            )
        if wanted and now - self._last >= TOLD_EVERY_S:
            self._last = now
            _say(line)


def _say(line: str) -> None:
    print(f"llmrl: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        prepare(on_cpu=True)
    except (TrainingError, OSError) as problem:
        raise SystemExit(f"llmrl: {problem}") from None
