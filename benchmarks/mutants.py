"""Plant errors that people make, one at a time, and see what turns red: `llmrl verify`, else the tests, else nothing.

    python benchmarks/mutants.py --jobs 2 --json benchmarks/mutants.json

`benchmarks/mutants/*.yaml` lists the errors: a file, a text that stands in it once, what stands there by mistake, and
why somebody would write that. Each is planted into a copy of the tree, never into the checkout. Verify comes first, its
cases before its forms and of these only those that can reach the file; then the tests that mirror the file, those
that import it, and those that reach it through other modules, the nearest first. The first failure ends it.

Results are appended to a file of JSON lines. A result holds while the error's file is as it was, and that of an error
which nothing has caught while all of the code and the tests are; so a run that was stopped goes on, and a second one
asks again only about what has changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "benchmarks" / "mutants"
RESULTS = ROOT / "build" / "mutants.jsonl"
FOLDERS = ("llmrl", "rewards", "data", "eval", "recipes", "tests", "benchmarks", "docs")
LINKS = ("rewards", "data", "eval", "recipes")  # in llmrl/, to the folders beside it
MATHEMATICS = ("llmrl/ops/", "llmrl/algorithms/")
LOOKS = ("verify", "unit", "integration")
CPU_S, WALL_S = 300, 1800  # of one look at an error, in a process of its own
WARM = (
    "numpy torch transformers safetensors tokenizers accelerate pydantic rich typer httpx jinja2 yaml sympy pytest "
    "hypothesis"
)
"""Modules that take long to import, and are no part of llmrl."""


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


@dataclass(frozen=True)
class Tree:
    """Modules and tests of a copy of the project, and who imports whom."""

    root: Path

    @cached_property
    def imports(self) -> Mapping[str, frozenset[str]]:
        """Files of the project that each file imports, wherever in it."""
        paths = [path for folder in FOLDERS[:6] for path in sorted((self.root / folder).rglob("*.py"))]
        paths = [path for path in paths if not any((self.root / "llmrl" / link) in path.parents for link in LINKS)]
        names = {self._module(path): str(path.relative_to(self.root)) for path in paths}
        return {str(path.relative_to(self.root)): frozenset(_imported(path, names)) for path in paths}

    def _module(self, path: Path) -> str:
        parts = list(path.relative_to(self.root).with_suffix("").parts)
        parts = ["llmrl", *parts] if parts[0] in LINKS else parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def distances(self, file: str) -> Mapping[str, int]:
        """Steps of imports from each file that reaches this one."""
        known, ring = {file: 0}, {file}
        while ring:
            ring = {name for name, used in self.imports.items() if name not in known and not ring.isdisjoint(used)}
            known |= dict.fromkeys(ring, max(known.values()) + 1)
        return known

    def stages(self, file: str) -> Mapping[str, list[list[str]]]:
        """Test files that may notice an error in a file: those that mirror it, import it, reach it; nearest first."""
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
        beside = [str(path.relative_to(self.root)) for path in sorted(own.glob("test_*.py"))] if parent.parts else []
        near = [path for path in units if distances[path] == 1]
        whole = sorted(
            (t for t in distances if t.startswith("tests/integration/test_")), key=lambda t: (distances[t], t)
        )
        stages = [first, [*near, *beside], [path for path in units if distances[path] > 1]]
        seen: set[str] = set()
        fresh: list[list[str]] = []
        for stage in stages:
            fresh.append([path for path in dict.fromkeys(stage) if path not in seen])
            seen.update(stage)
        named = [path for path in whole if stem.strip("_") in Path(path).stem] if len(stem) > 2 else []
        closest = [path for path in dict.fromkeys([*named, *whole]) if path in named or distances[path] <= 2]
        return {"unit": [stage for stage in fresh if stage], "integration": [closest] if closest else []}


def _imported(path: Path, names: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        yield from (names[name] for name in found if name in names)


def copied(root: Path, place: Path) -> None:
    """Copy the tree, with its links, and compile it, so that a planted error costs one compilation."""
    import compileall

    for name in FOLDERS:
        shutil.copytree(root / name, place / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "requirements"):
        (shutil.copytree if (root / name).is_dir() else shutil.copy2)(root / name, place / name)
    if (root / ".venv").exists():
        (place / ".venv").symlink_to((root / ".venv").resolve())
    compileall.compile_dir(place / "llmrl", quiet=2)


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


def apart(look: Callable[[], Any], root: Path) -> dict[str, Any]:
    """Result of a function in a forked process whose `llmrl` is that of a tree, and the seconds that it computed."""
    receives, sends = os.pipe()
    child = os.fork()
    if not child:
        _child(look, root, sends)
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


def _child(look: Callable[[], Any], root: Path, sends: int) -> None:
    os.setsid()
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    os.environ.setdefault("LLMRL_DATA", str(ROOT.parent / "shared" / "data"))
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
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


def verify_red(near: Mapping[str, int]) -> str:
    """The first check of `llmrl verify` that fails, of those that can reach a file; "" where none does.

    Args:
        near: steps of imports from the file to those that reach it.
    """
    import torch

    from llmrl.checks.verify.cases.run import SUBJECTS, cases
    from llmrl.checks.verify.forms import forms

    torch.set_num_threads(1)
    subjects = [name for name in SUBJECTS if f"llmrl/checks/verify/cases/{name}.py" in near]
    for subject in sorted(subjects, key=lambda name: near[f"llmrl/checks/verify/cases/{name}.py"]):
        for check in cases([subject]):
            if not check.ok and check.form == f"cases: {subject}":
                return f"{check.form}, {check.name}"
    reaching = sorted((form for form in forms() if _module_of(form) in near), key=lambda form: near[_module_of(form)])
    for part in ("oracle", "differences", "invariances", "learning"):
        for form in reaching:
            for check in _looked(form, part):
                if not check.ok:
                    return f"{form.name}, {part}, {check.name}"
    return ""


def _module_of(form: Any) -> str:
    return str(Path(sys.modules[type(form.algorithm).__module__].__file__ or "").relative_to(Path.cwd()))


def _looked(form: Any, part: str) -> Sequence[Any]:
    """Checks of a part, as `llmrl verify` asks them; of learning by the first seed alone."""
    from llmrl.checks.verify import differences, invariances, toy
    from llmrl.checks.verify.form import Check
    from llmrl.checks.verify.oracles import compare

    learning = partial(form.learns or toy.learning, seeds=(0,))
    looks = {"oracle": compare.oracle, "differences": differences.differences, "invariances": invariances.invariances}
    try:
        return {**looks, "learning": learning}[part](form)  # type: ignore[no-any-return]
    except Exception as error:
        return [Check(form.name, part, "runs", False, "no error", str(error))]  # type: ignore[arg-type]


def tests_red(files: Sequence[str]) -> str:
    """The first test of these files that fails, in their order; "" where none does."""
    import pytest

    class First:
        failed = ""

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed and not self.failed:
                self.failed = f"{report.nodeid}: it cannot be collected"

    first = First()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu", "-o", "timeout=900"]
    code = pytest.main([*options, *files], plugins=[first])
    return first.failed or ("" if code in (0, 5) else f"pytest ended with {code}")


def judged(error: PlantedError, tree: Tree, looks: Sequence[str]) -> dict[str, Any]:
    """Plant an error, and see what notices it.

    Args:
        looks: of `LOOKS`, those that are asked, in their order.
    """
    result: dict[str, Any] = {"verify": "", "test": "", "seconds": 0.0, "timeout": False}
    stages = tree.stages(error.file)
    asked = {
        "verify": [partial(verify_red, tree.distances(error.file))],
        "unit": [partial(tests_red, files) for files in stages["unit"]],
        "integration": [partial(tests_red, files) for files in stages["integration"]],
    }
    with in_place(error, tree.root):
        for name, look in [(kind, look) for kind in looks for look in asked[kind]]:
            seen = apart(look, tree.root)
            result["seconds"] = round(result["seconds"] + seen["seconds"], 1)
            result["timeout"] |= bool(seen.get("timeout"))
            if seen["red"]:
                return {**result, "verify" if name == "verify" else "test": seen["red"]}
    return result


def key_of(error: PlantedError, root: Path) -> str:
    """Hash of an error and of the file that it stands in."""
    text = (root / error.file).read_text(encoding="utf-8") if (root / error.file).exists() else ""
    return hashlib.sha256("\0".join([text, error.old, error.new]).encode()).hexdigest()[:16]


def whole_hash(root: Path) -> str:
    """Hash of all code and tests."""
    digest = hashlib.sha256()
    for path in sorted(
        path for folder in FOLDERS[:6] for path in (root / folder).rglob("*") if path.suffix in (".py", ".yaml")
    ):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def still_asked(row: Mapping[str, Any] | None, looks: Sequence[str], whole: str) -> list[str]:
    """What has not been asked about an error in this tree, and nothing if it has been caught."""
    if row is not None and (row["verify"] or row["test"]):
        return []
    done = row["looks"] if row is not None and row["whole"] == whole else []
    return [look for look in looks if look not in done]


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """Results so far, by key; a later one goes on where an earlier one of the same tree stopped."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        before = found.get(row["key"])
        if before is not None and before["whole"] == row["whole"]:  # it went on where that one stopped
            row["looks"] = [*before["looks"], *row["looks"]]
            row["seconds"] = round(row["seconds"] + before["seconds"], 1)
        found[row["key"]] = row
    return found


def table(rows: Sequence[tuple[PlantedError, Mapping[str, Any]]]) -> str:
    """Markdown: by package, what has caught its errors."""
    packages = {
        error.file: "/".join(error.file.split("/")[: -1 if error.file.count("/") > 1 else None][:2])
        for error, _ in rows
    }
    lines = ["| package | errors | caught by verify | by tests | alive |", "|---|---|---|---|---|"]
    for package in [*dict.fromkeys(packages.values()), "all"]:
        own = [row for error, row in rows if package in ("all", packages[error.file])]
        verify, tests = sum(bool(row["verify"]) for row in own), sum(bool(row["test"]) for row in own)
        lines.append(f"| {package} | {len(own)} | {verify} | {tests} | {len(own) - verify - tests} |")
    return "\n".join(lines)


def work(todo: Sequence[tuple[PlantedError, Sequence[str]]], options: argparse.Namespace, whole: str) -> None:
    """Judge errors one by one, in a copy of the tree of this process; each result is written as it comes."""
    with tempfile.TemporaryDirectory(prefix="llmrl-mutants-") as place:
        root = Path(place) / "tree"
        copied(ROOT, root)
        tree = Tree(root)
        for error, looks in todo:
            began = time.monotonic()
            row = {"key": key_of(error, ROOT), "whole": whole, **asdict(error), "looks": list(looks)}
            row |= judged(error, tree, looks)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            said = f"verify: {row['verify']}" if row["verify"] else row["test"] or "ALIVE"
            took = f"{row['seconds']:6.1f} s of {time.monotonic() - began:6.1f}"
            print(
                f"{took}  {error.file}: {error.why}  ->  {said}{' (out of time)' if row['timeout'] else ''}", flush=True
            )


def spread(todo: Sequence[tuple[PlantedError, Sequence[str]]], options: argparse.Namespace, whole: str) -> None:
    """Divide errors among processes that have imported what is slow to import, and none of llmrl."""
    import importlib

    os.environ["OMP_NUM_THREADS"] = "1"
    for name in WARM.split() if todo else ():
        importlib.import_module(name)
    children = []
    for job in range(min(options.jobs, len(todo))):
        if not (child := os.fork()):
            work(todo[job :: options.jobs], options, whole)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="errors whose file or reason matches this pattern")
    parser.add_argument("--looks", default="verify,unit", help=f"what is asked, in this order: {','.join(LOOKS)}")
    parser.add_argument("--verify-only", dest="looks", action="store_const", const="verify", help="no tests")
    parser.add_argument("--list", action="store_true", help="print the errors, and what is known of them")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path, help="write what is known of all errors")
    return parser.parse_args()


def main() -> int:
    """Judge what is not known yet, print the table and what is alive; exit code."""
    options = parsed()
    listed = [error for error in errors() if re.search(options.only, f"{error.file} {error.why}")]
    stale = []
    for error in listed:
        try:
            error.planted((ROOT / error.file).read_text(encoding="utf-8"))
        except (ValueError, OSError) as fault:
            stale.append(str(fault))
    if stale:
        print("\n".join(stale), file=sys.stderr)
        return 2
    options.results.parent.mkdir(parents=True, exist_ok=True)
    known, whole = kept(options.results), whole_hash(ROOT)
    if not options.list:
        todo = [
            (error, still_asked(known.get(key_of(error, ROOT)), options.looks.split(","), whole)) for error in listed
        ]
        spread([(error, looks) for error, looks in todo if looks], options, whole)
    known = kept(options.results)
    rows = [(error, known[key_of(error, ROOT)]) for error in listed if key_of(error, ROOT) in known]
    print(table(rows))
    for error, row in rows:
        if not row["verify"] and not row["test"]:
            print(f"alive: {error.file}: {error.why}\n    {error.old}\n    {error.new}")
    print(f"{len(rows)} of {len(listed)} errors, {sum(row['seconds'] for _, row in rows):.0f} s of one core")
    if options.json:
        plain = [{**asdict(e), **{name: row[name] for name in ("verify", "test", "seconds")}} for e, row in rows]
        options.json.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
