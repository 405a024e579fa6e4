"""Errors that are planted into a copy of the tree, and the files of the project that reach a place by imports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from compileall import compile_dir
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "benchmarks" / "mutants"
CODE = ("llmrl", "rewards", "data", "eval", "recipes", "tests")
COPIED = (
    *CODE,
    "benchmarks",
    "docs",
    "requirements",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
)
IMPORT = re.compile(r"^ *(?:from|import) ((?:llmrl|tests)[\w.]*)(?: import (\([^)]*\)|.*))?$", re.MULTILINE)
CPU_S, WALL_S = 300, 1800  # of one look at an error, in a process of its own
AT_ONCE = 5  # test files that one process collects before it runs any of them
LINKS = ("rewards", "data", "eval", "recipes")  # in llmrl/, to the folders beside it
MIRROR = re.compile(r"^tests/(?:unit|integration)/((?:\w+/)*)test_(\w+)\.py$")


@dataclass(frozen=True)
class PlantedError:
    """An error as the list has it."""

    file: str
    why: str
    old: str
    new: str

    def planted(self, text: str) -> str:
        """The file's text with the error in it.

        Raises:
            ValueError: the old text does not stand there exactly once, or what comes of it does not compile.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file}: {self.old!r} stands there {found} times; expected once ({self.why})")
        wrong = text.replace(self.old, self.new)
        try:
            compile(wrong, self.file, "exec")
        except SyntaxError as error:
            raise ValueError(f"{self.file}: with {self.new!r} it does not compile: {error} ({self.why})") from None
        return wrong


def errors(folder: Path = LISTS) -> list[PlantedError]:
    """List every error, in the order of the files."""
    return [
        PlantedError(**entry) for path in sorted(folder.glob("*.yaml")) for entry in yaml.safe_load(path.read_text())
    ]


def module_of(file: str) -> str:
    """The name under which a file of the project is imported."""
    parts = file.removesuffix(".py").split("/")
    parts = ["llmrl", *parts] if parts[0] in LINKS else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Tree:
    """Modules and tests of a copy of the project, and who imports whom."""

    root: Path

    @cached_property
    def imports(self) -> Mapping[str, frozenset[str]]:
        """Files of the project that each file imports, wherever in it; a test, that of which it is the mirror, too.

        Tests name plug-ins, and import none.
        """
        paths = [path for folder in CODE for path in sorted((self.root / folder).rglob("*.py"))]
        paths = [path for path in paths if not any((self.root / "llmrl" / link) in path.parents for link in LINKS)]
        names = {module_of(str(path.relative_to(self.root))): str(path.relative_to(self.root)) for path in paths}
        used = {str(path.relative_to(self.root)): frozenset(_imported(path, names)) for path in paths}
        mirrors = {file: MIRROR.sub(r"llmrl/\1\2.py", file) for file in used}
        return {file: imported | {mirrors[file]} & used.keys() - {file} for file, imported in used.items()}

    def distances(self, file: str) -> Mapping[str, int]:
        """Steps of imports from each file that reaches this one."""
        known, ring = {file: 0}, {file}
        while ring:
            ring = {name for name, used in self.imports.items() if name not in known and not ring.isdisjoint(used)}
            known |= dict.fromkeys(ring, max(known.values()) + 1)
        return known

    def stages(self, file: str) -> Mapping[str, list[list[str]]]:
        """Test files that may notice an error in a file, by the look that runs them, the nearest first.

        `near` are those that mirror or import it or stand beside those, `unit` those that reach it through others.
        """
        inner = Path(file).relative_to("llmrl") if file.startswith("llmrl/") else Path(file)
        parent, stem = inner.parent, inner.stem
        if stem == "__init__":
            parent, stem = parent.parent, parent.name
        own = self.root / "tests" / "unit" / parent
        mirrored = [own / f"test_{stem}.py", *sorted((own / stem).glob("test_*.py"))]
        first = [str(path.relative_to(self.root)) for path in mirrored if path.exists()]
        distances = self.distances(file)
        units = sorted((path for path in distances if path.startswith("tests/unit")), key=lambda t: (distances[t], t))
        units = [path for path in units if Path(path).name.startswith("test_")]
        by_it = [str(path.relative_to(self.root)) for path in sorted(own.glob("test_*.py"))] if parent.parts else []
        near = [path for path in units if distances[path] == 1]
        whole = sorted(
            (t for t in distances if t.startswith("tests/integration/test_")), key=lambda t: (distances[t], t)
        )
        stages = [first, [*near, *by_it], [path for path in units if distances[path] > 1]]
        seen: set[str] = set()
        fresh: list[list[str]] = []
        for stage in stages:
            fresh.append([path for path in dict.fromkeys(stage) if path not in seen])
            seen.update(stage)
        named = [path for path in whole if stem.strip("_") in Path(path).stem] if len(stem) > 2 else []
        closest = [path for path in dict.fromkeys([*named, *whole]) if path in named or distances[path] <= 2]
        mirror, beside, far = ([stage[i : i + AT_ONCE] for i in range(0, len(stage), AT_ONCE)] for stage in fresh)
        return {"near": [*mirror, *beside], "unit": far, "integration": [[path] for path in closest]}


def _imported(path: Path, names: Mapping[str, str]) -> Iterator[str]:
    for module, imported in IMPORT.findall(path.read_text(encoding="utf-8")):
        found = [f"{module}.{name}" for name in re.findall(r"\w+", imported)] + [module]
        yield from (names[name] for name in found if name in names)


def copied(root: Path, place: Path) -> None:
    """Copy the tree, with its links, and compile it, so that a planted error costs one compilation."""
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, place / name, symlinks=True)
        else:
            shutil.copy2(root / name, place / name)
    if (root / ".venv").exists():
        (place / ".venv").symlink_to((root / ".venv").resolve())
    compile_dir(place / "llmrl", quiet=2)


@contextmanager
def in_place(error: PlantedError, root: Path) -> Iterator[None]:
    """The error stands in the tree, while the context lasts."""
    path = root / error.file
    text, times = path.read_text(encoding="utf-8"), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text(error.planted(text), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=times)  # its compiled form is that of this text


def apart(look: Callable[[], Any], root: Path, stale: Iterable[str]) -> dict[str, Any]:
    """Result of a function in a forked process, and the seconds that it computed.

    Args:
        look: the function.
        root: the tree whose `llmrl` the process has.
        stale: files whose modules it imports anew.
    """
    receives, sends = os.pipe()
    child = os.fork()
    if not child:
        _child(look, root, stale, sends)
    os.close(sends)
    text, ends = b"", time.monotonic() + WALL_S
    while select.select([receives], [], [], max(0.0, ends - time.monotonic()))[0]:
        if not (part := os.read(receives, 65536)):
            break
        text += part
    else:
        text = json.dumps({"red": "", "timeout": True}).encode()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # it, where it still runs, and what it has left behind
    os.close(receives)
    _, status, usage = os.wait4(child, 0)
    if not text:
        over = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        text = json.dumps({"red": "" if over else f"the process ended ({status})", "timeout": over}).encode()
    return {**json.loads(text), "seconds": round(usage.ru_utime + usage.ru_stime, 1)}


def _child(look: Callable[[], Any], root: Path, stale: Iterable[str], sends: int) -> None:
    os.setsid()
    os.chdir(root)
    for name in map(module_of, stale):
        sys.modules.pop(name, None)
        parent, _, own = name.rpartition(".")
        if parent in sys.modules and hasattr(sys.modules[parent], own):
            delattr(sys.modules[parent], own)
    os.environ["PYTHONPATH"] = str(root)
    os.environ.setdefault("LLMRL_DATA", str(ROOT.parent / "shared" / "data"))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
    quiet = os.open(root / "look.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        found = look()
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"[:300]
    os.write(sends, json.dumps({"red": found}).encode())
    os._exit(0)


def from_file(files: Sequence[str], test: str) -> Sequence[str]:
    """Return the files from that of a test on; all where it stands in none of them."""
    file = test.partition("::")[0]
    return files[files.index(file) :] if file in files else files
