"""Read the status of each test from a log, in the forms of the repositories of SWE-bench.

The readers of these repositories give what those of the package `swebench` (5.0.2) give, name by name, for its lists of
tests were made by them: some end a name at its first blank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from llmrl.swe.grading import Status

Statuses = dict[str, Status]
START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
FAULTS = (">>>>> Patch Apply Failed", ">>>>> Reset Failed", ">>>>> Tests Errored", ">>>>> Tests Timed Out")
"""Marks of the harness for tests that did not run to their end."""

_EXIT = re.compile(r">>>>> Test Exit Code:\s{0,9}(-?\d{1,9})")
_STATUS = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
_TEST = r"(\S+::[^\s\[]+(?:\[.*?\])?)"  # a path and names, and values in brackets
_BEHIND = re.compile(rf"{_TEST} ({_STATUS})(?: .*)?")  # as pytest -v writes while it runs
_BEFORE = re.compile(rf"({_STATUS}) {_TEST}(?: - .*)?")  # and as it sums up in the end
_LONGEST = 4096  # characters of a line that tells of a test
_NAMED = ("FAILED", "PASSED", "SKIPPED", "ERROR", "XFAIL")  # at the beginning of a line, by the package
_COLOUR = re.compile(r"\[\d+m")
_CONTROL = dict.fromkeys(number for number in range(1, 32) if number != 10)
_SKIPS = re.compile(r"\[\d+\]")
_PASSES = (" ... ok", " ... OK", " ...  OK")
_OK = re.compile(r"\nok$", re.MULTILINE)
_INTERRUPTED = re.compile(r"\s\.\.\.\s(?:Internal Server Error: /|System check identified no issues \(0 silenced\)\Z)")
_SETUP = re.compile(r"^(.*?)\s\.\.\.\sTesting against Django installed in ", re.MULTILINE)
_SETUP_END = re.compile(r" silenced\)\.\nok$", re.MULTILINE)
_MIGRATION = "Applying sites.0002_alter_domain_unique...test_no_migrations"
_VERSION = "--version is equivalent to version"


def read_log(log: str, repo: str = "") -> Statuses:
    """Read the status of each test, between the harness's marks where there are any.

    A test that is told of twice, as one whose teardown broke, has the last status.

    Args:
        repo: its name in SWE-bench, such as `django/django`; any other is read as pytest's, with whole names.
    """
    if START in log:
        log = log.partition(START)[2].partition(END)[0]
    return READERS.get(repo, read_pytest)(log)


def harness_statuses(log: str, repo: str = "") -> Statuses | None:
    """Read the log of a run of SWE-bench's harness; None where it is no evidence, and the change is not resolved.

    So it is where tests did not run to their end, where none is told of, and where the command failed though no test
    did: then something printed the lines that the tests should have. Where nothing stands between the marks, the
    whole log is read.
    """
    if any(mark in log for mark in FAULTS) or START not in log or END not in log:
        return None
    statuses = read_log(log, repo) or READERS.get(repo, read_pytest)(log)
    code = _EXIT.search(log.rpartition(END)[2])
    failed = any(status in ("FAILED", "ERROR") for status in statuses.values())
    return None if not statuses or (code and int(code[1]) and not failed) else statuses


def read_pytest(log: str) -> Statuses:
    """Read a log of pytest (-v or -rA): lines with a status and the whole name of a test."""
    statuses: Statuses = {}
    for line in log.splitlines():
        if "::" not in line or len(line) > _LONGEST:  # of no test: a program's own output
            continue
        if match := _BEFORE.fullmatch(line):
            statuses[match[2]] = match[1]  # type: ignore[assignment]
        elif match := _BEHIND.fullmatch(line):
            statuses[match[1]] = match[2]  # type: ignore[assignment]
    return statuses


def read_summary(log: str) -> Statuses:
    """Read what pytest -rA sums up, each name to its first blank."""
    return _known((words[1], words[0]) for words in _summary(log))


def read_short_paths(log: str) -> Statuses:
    """Read the same; of a path in brackets the last name stays."""
    return _known((_shortened(words[1]), words[0]) for words in _summary(log))


def read_matplotlib(log: str) -> Statuses:
    """Read the same; names of mouse buttons are those of older Pythons."""
    return read_summary(log.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))


def read_coloured(log: str) -> Statuses:
    """Read a log of pytest with colours: whole names, with the status before or behind them."""
    return _known(_coloured(log))


def read_seaborn(log: str) -> Statuses:
    """Read a log of seaborn's tests, of which only passes and failures count."""
    return _known(_seaborn(log))


def read_django(log: str) -> Statuses:
    """Read a log of Django's runner (`test_x (module.Class) ... ok`), and its known interruptions."""
    return _known(_django(log))


def read_sympy(log: str) -> Statuses:
    """Read a log of sympy's runner: `test_x ok`, `test_x F`, `test_x E`, and headings of failures."""
    return _known(_sympy(log))


def _known(pairs: Iterator[tuple[str, str]]) -> Statuses:
    """The last status of each test; words that are none are left out."""
    return {test: status for test, status in dict(pairs).items() if status in get_args(Status)}  # type: ignore[misc]


def _summary(log: str) -> Iterator[list[str]]:
    """Words of the lines that begin with a status."""
    for line in filter(None, log.split("\n")):
        if line.startswith(_NAMED):
            words = (line.replace(" - ", " ") if line.startswith("FAILED") else line).split()
            if len(words) > 1 and not _counts_skips(words):
                yield words


def _counts_skips(words: list[str]) -> bool:
    """Recognise `SKIPPED [2] tests/test_a.py: reason`, which names no test."""
    return words[0] == "SKIPPED" and _SKIPS.fullmatch(words[1]) is not None


def _shortened(name: str) -> str:
    start, end = name.find("["), name.rfind("]")
    if start < 0 or end < start:
        return name
    values = name[start + 1 : end]
    is_path = values.startswith("/") and not values.startswith("//") and "*" not in values
    return f"{name[:start]}[{'/' + values.rpartition('/')[2] if is_path else values}]"


def _coloured(log: str) -> Iterator[tuple[str, str]]:
    for line in filter(None, _COLOUR.sub("", log).translate(_CONTROL).split("\n")):
        if line.startswith(_NAMED):
            words = (line.split(" - ", 1)[0] if line.startswith("FAILED") else line).split()
            if len(words) > 1 and not _counts_skips(words):
                yield " ".join(words[1:]), words[0]
        elif line.endswith(_NAMED) and len(words := line.split()) > 1:
            yield " ".join(words[:-1]), words[-1]


def _seaborn(log: str) -> Iterator[tuple[str, str]]:
    for line in filter(None, log.split("\n")):
        words = line.split()
        if len(words) < 2:
            continue
        if line.startswith("FAILED"):
            yield words[1], "FAILED"
        elif " PASSED " in line:
            if words[1] == "PASSED":
                yield words[0], "PASSED"
        elif line.startswith("PASSED"):
            yield words[1], "PASSED"


def _django(log: str) -> Iterator[tuple[str, str]]:
    named = None  # the test that a line named last
    for line in filter(None, map(str.strip, log.split("\n"))):
        name, dots, _ = line.partition(" ... ")
        if dots:
            named = name
            yield from _django_end(line)
        elif _VERSION not in line and not line.startswith(("ok", "FAIL:", "ERROR:")):
            continue  # of no test: a program's own output
        if _VERSION in line:
            yield _VERSION, "PASSED"
        if line.startswith(("FAIL:", "ERROR:")) and len(words := line.split()) > 1:
            yield words[1], "FAILED" if line.startswith("FAIL:") else "ERROR"
        if line.startswith("ok") and named is not None:  # the test has printed something before its end
            yield named, "PASSED"
    yield from _django_interrupted(log)
    at = 0
    while (start := _SETUP.search(log, at)) and (end_of_setup := _SETUP_END.search(log, start.end())):
        yield start[1], "PASSED"
        at = end_of_setup.end()


def _django_end(line: str) -> Iterator[tuple[str, str]]:
    """Tests of a line with dots that tells how they ended."""
    if end := next(filter(line.endswith, _PASSES), None):
        test = line.partition("...")[2].strip() if line.startswith(_MIGRATION) else line
        yield test.rpartition(end)[0], "PASSED"
    if " ... skipped" in line:
        yield line.partition(" ... skipped")[0], "SKIPPED"
    for end, status in ((" ... FAIL", "FAILED"), (" ... ERROR", "ERROR")):
        if line.endswith(end):
            yield line.partition(end)[0], status


def _django_interrupted(log: str) -> Iterator[tuple[str, str]]:
    """Tests that passed though a line of the server's stands in the place of their end: `ok` is on the next."""
    begin = 0
    for ok in _OK.finditer(log):
        start = ok.start()
        for _ in range(3):  # the server's line, and two more, for the blanks around the dots may be newlines
            start = log.rfind("\n", begin, max(start, begin))
            if start < 0:
                break
        above = log[max(start, begin) : ok.start()]
        end = above.rfind("\n")
        for match in _INTERRUPTED.finditer(above):
            if match.end() > end and (match[0].endswith(")") or (match.end() < len(above) and above.endswith("/"))):
                yield above[: match.start()].rpartition("\n")[2], "PASSED"
                begin = ok.end() + 1
                break


def _sympy(log: str) -> Iterator[tuple[str, str]]:
    lines = list(filter(None, log.split("\n")))
    for line in filter(lambda line: ".py:" in line, lines):  # _____ sympy/core/tests/test_a.py:test_b _____
        first, last = line.find(" "), line.rfind(" ")
        middle = line.rfind(".py:", first + 1, last) if first >= 0 else -1
        if middle >= 0:
            yield line[first + 1 : last], "FAILED"
    for line in map(str.strip, lines):
        if line.startswith("test_"):
            for end, status in ((" E", "ERROR"), (" F", "FAILED"), (" ok", "PASSED")):
                if line.endswith(end):
                    yield line.split()[0], status


READERS: Mapping[str, Callable[[str], Statuses]] = {
    **dict.fromkeys(("astropy/astropy", "scikit-learn/scikit-learn", "sphinx-doc/sphinx"), read_coloured),
    **dict.fromkeys(("psf/requests", "pydicom/pydicom", "pylint-dev/pylint"), read_short_paths),
    **dict.fromkeys(("marshmallow-code/marshmallow", "pallets/flask", "pvlib/pvlib-python"), read_summary),
    **dict.fromkeys(("pydata/xarray", "pylint-dev/astroid", "pytest-dev/pytest"), read_summary),
    **dict.fromkeys(("pyvista/pyvista", "sqlfluff/sqlfluff"), read_summary),
    "django/django": read_django,
    "matplotlib/matplotlib": read_matplotlib,
    "mwaskom/seaborn": read_seaborn,
    "sympy/sympy": read_sympy,
}
"""Readers by repository, as the package has them."""
