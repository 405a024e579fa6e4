"""Plant errors that people make, one at a time, and see what turns red: `llmrl verify`, else the tests, else nothing.

    python benchmarks/mutants.py --jobs 2 --json benchmarks/mutants.json

`benchmarks/mutants/*.yaml` lists the errors: a file, a text that stands in it once, what stands there by mistake, and
why somebody would write that. Each is planted into a copy of the tree, never into the checkout. Verify comes first, its
cases before its forms and of these only those that can reach the file; then the unit tests that mirror the file, import
it or stand beside those ("near"), and those that reach it through other modules ("unit"). The first failure ends it.

Results are appended to a file of JSON lines. A result holds while the error's file is as it was, and that of an error
which nothing has caught while all of the code and the tests are; so a run that was stopped goes on, and a second one
asks again only about what has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from planting import CODE, ROOT, PlantedError, Tree, apart, copied, errors, from_file, in_place

RESULTS = ROOT / "build" / "mutants.jsonl"
MATHEMATICS = ("llmrl/ops/", "llmrl/algorithms/")
VERIFY = ("cases", "oracle", "invariances", "differences", "learning")
TESTS = ("near", "unit", "integration")
LOOKS = (*VERIFY, *TESTS)
WARM = {
    "cases": "numpy torch yaml pydantic",
    "tests": "transformers transformers.models.qwen3.modeling_qwen3 safetensors.torch tokenizers accelerate peft rich "
    "typer httpx jinja2 sympy pytest starlette uvicorn",
}
"""Modules that take long to import and are no part of llmrl, by what first needs them."""


def cases_red(near: Mapping[str, int]) -> str:
    """The first worked case of `llmrl verify` that fails, of those that can reach a file; "" where none does.

    Args:
        near: steps of imports from the file to those that reach it.
    """
    from llmrl.checks.verify.cases.run import SUBJECTS, cases

    places = {name: f"llmrl/checks/verify/cases/{name}.py" for name in SUBJECTS}
    for subject in sorted((name for name in SUBJECTS if places[name] in near), key=lambda name: near[places[name]]):
        for check in cases([subject]):
            if not check.ok and check.form == f"cases: {subject}":
                return f"{check.form}, {check.name}"
    return ""


def forms_red(near: Mapping[str, int], part: str) -> str:
    """The first check of a part of a form of `llmrl verify` that fails, likewise."""
    import torch

    from llmrl.checks.verify.forms import forms

    torch.set_num_threads(1)
    for form in sorted((form for form in forms() if _module_of(form) in near), key=lambda form: near[_module_of(form)]):
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


def failing_test(files: Sequence[str], ignored: Sequence[str]) -> str:
    """The first test of these files that fails, in their order; "" where none does.

    Args:
        ignored: tests that are left out.
    """
    import pytest

    class First:
        failed = ""

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

    first = First()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu", "-o", "timeout=900"]
    warmed = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plug-ins of pytest that `warm` has imported
    code = pytest.main([*options, *warmed, *(f"--deselect={name}" for name in ignored), *files], plugins=[first])
    return first.failed or ("" if code in (0, 5) else f"pytest ended with {int(code)}")


class Judge:
    """Plants errors into a copy of the tree, and sees if a look notices them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._right: set[str] = set()  # tests that pass without any error
        self._wrong: set[str] = set()  # and those that do not: they tell nothing

    def __call__(self, error: PlantedError, look: str) -> dict[str, Any]:
        """The result of a look, one of `LOOKS`."""
        result: dict[str, Any] = {"verify": "", "test": "", "seconds": 0.0, "timeout": False}
        near = self._tree.distances(error.file)
        asked: list[Sequence[str] | None] = [None] if look in VERIFY else [*self._tree.stages(error.file)[look]]
        while asked:
            ask = partial(forms_red, near, look) if look != "cases" else partial(cases_red, near)
            if asked[0] is not None:
                ask = partial(failing_test, asked[0], sorted(self._wrong))
            with in_place(error, self._tree.root):
                seen = apart(ask, self._tree.root, near)
            result["seconds"] = round(result["seconds"] + seen["seconds"], 1)
            result["timeout"] |= bool(seen.get("timeout"))
            if seen["red"] and (look in VERIFY or self._tells(seen["red"], asked[0] or (), near)):
                return {**result, "verify" if look in VERIFY else "test": seen["red"]}
            if not seen["red"]:
                asked.pop(0)
            else:  # on from its file, without the test that fails anyway
                asked[0] = from_file(asked[0] or (), seen["red"])
        return result

    def _tells(self, red: str, files: Sequence[str], near: Mapping[str, int]) -> bool:
        """True of a failure that is not there without the error.

        Raises:
            RuntimeError: pytest itself fails, whatever is planted, or a test that does cannot be left out.
        """
        if red in self._wrong:
            raise RuntimeError(f"{red} fails without any error; look at {self._tree.root / 'look.log'}")
        if red not in self._right:
            named = red.startswith("tests/")
            clean = apart(partial(failing_test, [red] if named else files, sorted(self._wrong)), self._tree.root, near)
            if clean["red"] and not (named and clean["red"].startswith(red)):
                raise RuntimeError(f"{red} without any error: {clean['red']}; look at {self._tree.root / 'look.log'}")
            (self._wrong if clean["red"] else self._right).add(red)
            if clean["red"]:
                print(f"{red} fails without any error, and is left out", flush=True)
        return red in self._right


def key_of(error: PlantedError, root: Path) -> str:
    """Hash of an error and of the file that it stands in."""
    text = (root / error.file).read_text(encoding="utf-8") if (root / error.file).exists() else ""
    return hashlib.sha256("\0".join([text, error.old, error.new]).encode()).hexdigest()[:16]


def whole_hash(root: Path) -> str:
    """Hash of all code and tests."""
    digest = hashlib.sha256()
    for path in sorted(
        path for folder in CODE for path in (root / folder).rglob("*") if path.suffix in (".py", ".yaml")
    ):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def still_asked(row: Mapping[str, Any] | None, looks: Sequence[str], whole: str) -> list[str]:
    """List what has not been asked about an error in this tree; nothing if it has been caught."""
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


def state_of(row: Mapping[str, Any] | None) -> str:
    """Tell what is known of an error: caught by `verify` or `tests`, `alive`, or `open` where not all was asked."""
    if row is None or not (row["verify"] or row["test"] or {*LOOKS} - {"integration"} <= {*row["looks"]}):
        return "open"
    return "verify" if row["verify"] else "tests" if row["test"] else "alive"


def table(rows: Sequence[tuple[PlantedError, Mapping[str, Any] | None]]) -> str:
    """Markdown: by package, what has caught its errors."""
    states = [("/".join(error.file.split("/")[:2]).removesuffix(".py"), state_of(row)) for error, row in rows]
    states = [(name if name.startswith("llmrl/") else name.split("/")[0], state) for name, state in states]
    lines = [
        "| errors in | planted | caught by verify | by tests | alive | not all asked yet |",
        "|---|---|---|---|---|---|",
    ]
    for package in [*dict.fromkeys(name for name, _ in states), "all"]:
        own = [state for name, state in states if package in ("all", name)]
        counts = [own.count(state) for state in ("verify", "tests", "alive", "open")]
        lines.append(f"| {package} | {len(own)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def warm(root: Path, tests: bool) -> None:
    """Import what looks are made of from the copy of the tree: each imports anew what its error can reach."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path.insert(0, str(root))
    importlib.import_module("llmrl.checks.verify.forms")
    for name in ("cases", "oracles"):
        for path in sorted((root / "llmrl" / "checks" / "verify" / name).glob("[a-z]*.py")):
            importlib.import_module(f"llmrl.checks.verify.{name}.{path.stem}")
    for name in (
        ("train.run", "evaluation.evaluate", "engines.hf", "sources.replay", "reward_models.model") if tests else ()
    ):
        importlib.import_module(f"llmrl.{name}")
    if tests:  # and pytest, with its plug-ins
        with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()):
            failing_test(["--collect-only", "tests/unit/test_types.py"], ())


def work(todo: Sequence[tuple[PlantedError, Sequence[str]]], options: argparse.Namespace, whole: str) -> None:
    """Judge errors, all by what is quick before any by what is slow, in a copy of the tree of this process.

    Each result is written as it comes.
    """
    with tempfile.TemporaryDirectory(prefix="llmrl-mutants-") as place:
        root, caught = Path(place) / "tree", set()
        copied(ROOT, root)
        judge = Judge(Tree(root))
        warm(root, any({*TESTS} & set(looks) for _, looks in todo))
        for look, error in [(look, error) for look in LOOKS for error, looks in todo if look in looks]:
            if error in caught:
                continue
            began = time.monotonic()
            row = {"key": key_of(error, ROOT), "whole": whole, **asdict(error), "looks": [look]}
            row |= judge(error, look)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            said = row["verify"] or row["test"]
            caught |= {error} if said else set()
            took = f"{row['seconds']:6.1f} s of {time.monotonic() - began:6.1f}"
            over = " (out of time)" if row["timeout"] else ""
            print(f"{took}  {error.file}: {error.why}  ->  {look}: {said or '-'}{over}", flush=True)


def spread(todo: Sequence[tuple[PlantedError, Sequence[str]]], options: argparse.Namespace, whole: str) -> None:
    """Divide errors among processes that have imported what is slow to import, and none of llmrl."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "DS_ACCELERATOR": "cpu",
    }
    wanted = {look for _, looks in todo for look in looks}
    tests = wanted & {*TESTS}
    for name in f"{WARM['cases'] if todo else ''} {WARM['tests'] if tests else ''}".split():
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
    parser.add_argument(
        "--looks", default=",".join(LOOKS[:-1]), help=f"what is asked, in this order: {','.join(LOOKS)}"
    )
    parser.add_argument("--verify-only", dest="looks", action="store_const", const=",".join(VERIFY), help="no tests")
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
    rows = [(error, known.get(key_of(error, ROOT))) for error in listed]
    print(table(rows))
    for error, row in rows:
        if state_of(row) == "alive":
            print(f"alive: {error.file}: {error.why}\n    {error.old}\n    {error.new}")
    asked = [(error, row) for error, row in rows if row is not None]
    print(
        f"{len(asked)} of {len(rows)} errors were planted, {sum(row['seconds'] for _, row in asked):.0f} s of one core"
    )
    if options.json:
        plain = [
            {**asdict(e), **{name: row[name] for name in ("looks", "verify", "test", "seconds")}} for e, row in asked
        ]
        options.json.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
