"""The interpreter of untrusted code: its path, its readable files, and the packages beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llmrl.errors import SandboxError

OPTIONS = ("-s", "-S", "-B")  # no packages, nothing of the user's, no compiled files
OWN_PARTS = ("bin", "lib", "lib64")  # of the interpreter's folder; the rest stays hidden


@dataclass(frozen=True)
class Interpreter:
    """An interpreter on this machine.

    Attributes:
        executable: its path.
        prefix: the folder of its library.
        packages: by name: the folders of the packages that a program may import, with those that they need.
    """

    executable: Path
    prefix: Path
    packages: tuple[tuple[str, Path], ...] = ()

    def hidden(self) -> list[Path]:
        """Folders that hold packages."""
        return package_folders(self.prefix)


@cache
def ours(packages: tuple[str, ...] = ()) -> Interpreter:
    """The interpreter that runs llmrl, with packages of its environment.

    Raises:
        SandboxError: a package is not installed, or is no folder.
    """
    executable, prefix = Path(sys.executable).resolve(), Path(sys.base_prefix).resolve()
    return Interpreter(executable, prefix, tuple(entry for name in packages for entry in _found(name)))


@cache
def open_to_all(packages: tuple[str, ...] = ()) -> Interpreter:
    """An interpreter that any user may run: ours, or the system's without packages."""
    mine = ours(packages)
    system = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if _readable_by_all(mine.executable) or system is None:
        kept = tuple((name, folder) for name, folder in mine.packages if _readable_by_all(folder))
        return Interpreter(mine.executable, mine.prefix, kept)
    executable = Path(system).resolve()
    return Interpreter(executable, executable.parent.parent)


@cache
def package_folders(prefix: Path) -> list[Path]:
    """The folders below a prefix that hold packages."""
    patterns = ("lib*/python3*/site-packages", "lib*/python3*/dist-packages")
    folders = {path.resolve() for pattern in patterns for path in prefix.glob(pattern) if path.is_dir()}
    return sorted(folders)


def library(interpreter: Interpreter) -> list[Path]:
    """Files and folders by which the interpreter runs: itself, shared libraries, its own modules, not packages."""
    places = [interpreter.executable]
    for name in OWN_PARTS[1:]:
        folder = interpreter.prefix / name
        if folder.is_dir() and not folder.is_symlink():
            places += [path for path in sorted(folder.iterdir()) if ".so" in path.name or path.suffix == ".zip"]
            places += [path for top in sorted(folder.glob("python3*")) for path in without(top, interpreter.hidden())]
    return places


def without(folder: Path, hidden: Sequence[Path]) -> list[Path]:
    """Leave hidden folders out: list a folder, or its content where something hidden lies below."""
    real = folder.resolve()
    if real in hidden:
        return []
    if not any(path.is_relative_to(real) for path in hidden):
        return [folder]
    return [path for entry in sorted(real.iterdir()) for path in without(entry, hidden)]


def _found(name: str) -> list[tuple[str, Path]]:
    """Find a package's folder, or a module's file, and what a wheel puts beside it: shared libraries, metadata."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        raise SandboxError(f"package {name} is not installed; install it, or leave it out of `packages`")
    if not spec.submodule_search_locations:
        file = Path(str(spec.origin)).resolve()
        return [(file.name, file)]
    folder = Path(spec.submodule_search_locations[0]).resolve()
    beside = [folder.with_name(f"{name}.libs"), *folder.parent.glob(f"{name}-*.dist-info")]
    return [(name, folder), *((place.name, place) for place in beside if place.is_dir())]


def _readable_by_all(path: Path) -> bool:
    """Tell whether any user may run this file, or enter this folder."""
    return all(os.stat(place).st_mode & 0o001 for place in (path, *path.parents))
