"""Read the status of each test from a log, in the forms of the repositories of SWE-bench."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from llmrl.swe.grading import Status

Statuses = dict[str, Status]
START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
FAULTS = (">>>>> Patch Apply Failed", ">>>>> Reset Failed", ">>>>> Tests Errored", ">>>>> Tests Timed Out")
"""Marks of the harness for tests that did not run to their end: the change is not graded then, and not resolved."""

_STATUS = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
_TEST = r"(\S+::[^\s\[]+(?:\[.*?\])?)"  # a path and names, and values in brackets
_BEHIND = re.compile(rf"{_TEST}\s+({_STATUS})(?:\s.*)?")  # as pytest -v writes while it runs
_BEFORE = re.compile(rf"({_STATUS})\s+{_TEST}(?: - .*)?")  # and as it sums up in the end
_LONGEST = 4096  # characters of a line that tells of a test
_COLOURS = re.compile(r"\x1b\[[\d;]*m|[\x01-\x08\x0b-\x1f]")
_LAST_FOLDERS = re.compile(r"\[/(?!/)[^*\]]*/([^/\]]*)\]$")
_SYMPY_FAILURE = re.compile(r" (.*)\.py:(.*) ")
_DJANGO_ENDS: dict[str, Status] = {" ... ok": "PASSED", " ... OK": "PASSED", " ...  OK": "PASSED"}
_DJANGO_ENDS |= {" ... FAIL": "FAILED", " ... ERROR": "ERROR"}
_DJANGO_INTERRUPTED = re.compile(
    r"^(.*?)\s\.\.\.\s(?:Internal Server Error: /.*/|System check identified no issues \(0 silenced\))\nok$",
    re.MULTILINE,
)
_DJANGO_SETUP = re.compile(r"^(.*?)\s\.\.\.\sTesting against Django installed in ", re.MULTILINE)
_DJANGO_SETUP_END = re.compile(r" silenced\)\.\nok$", re.MULTILINE)
_DJANGO_MIGRATION = "Applying sites.0002_alter_domain_unique...test_no_migrations"
_DJANGO_VERSION = "--version is equivalent to version"


def read_log(log: str, repo: str = "") -> Statuses:
    """Read the status of each test, between the harness's marks where there are any.

    A test that is told of twice, as one whose teardown broke, has the last status.

    Args:
        repo: its name in SWE-bench, such as `django/django`; any other is read as pytest's.
    """
    if START in log:
        log = log.partition(START)[2].partition(END)[0]
    return READERS.get(repo, read_pytest)(log)


def fault_of(log: str) -> str | None:
    """Find the harness's mark for tests that did not run to their end; None where they did."""
    return next((mark for mark in FAULTS if mark in log), None)


def read_pytest(log: str) -> Statuses:
    """Read a log of pytest (-v or -rA): lines with a status and the whole name of a test."""
    statuses: Statuses = {}
    for line in _lines(_COLOURS.sub("", log) if "\x1b" in log else log):
        if "::" not in line:  # of no test: a program's own output
            continue
        if match := _BEFORE.fullmatch(line):
            statuses[match[2]] = match[1]  # type: ignore[assignment]
        elif match := _BEHIND.fullmatch(line):
            statuses[match[1]] = match[2]  # type: ignore[assignment]
    return statuses


def read_short_paths(log: str) -> Statuses:
    """Read a log of pytest whose tests have paths in brackets, as of requests: of each its last name stays."""
    return {_LAST_FOLDERS.sub(r"[/\1]", test): status for test, status in read_pytest(log).items()}


def read_matplotlib(log: str) -> Statuses:
    """Read a log of matplotlib's tests, whose names of mouse buttons have changed with Python."""
    return read_pytest(log.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))


def read_seaborn(log: str) -> Statuses:
    """Read a log of seaborn's tests, of which only passes and failures count."""
    return read_pytest(
        "\n".join(line for line in _lines(log) if not re.search(r"(?:^| )(?:ERROR|SKIPPED|X\w+) ", line))
    )


def read_django(log: str) -> Statuses:
    """Read a log of Django's runner (`test_x (module.Class) ... ok`), and its known interruptions."""
    statuses: Statuses = {}
    test = None  # named last
    for line in map(str.strip, log.split("\n")):
        if _DJANGO_VERSION in line:
            statuses[_DJANGO_VERSION] = "PASSED"
        if " ... " in line:
            test = line.split(" ... ")[0]
        if end := next((end for end in _DJANGO_ENDS if line.endswith(end)), None):
            name = line.split("...", 1)[-1].strip() if line.startswith(_DJANGO_MIGRATION) else line
            name = name.rsplit(end, 1)[0] if _DJANGO_ENDS[end] == "PASSED" else line.split(end)[0]
            statuses[name] = _DJANGO_ENDS[end]
        if " ... skipped" in line:
            statuses[line.split(" ... skipped")[0]] = "SKIPPED"
        if line.startswith(("FAIL:", "ERROR:")) and len(words := line.split()) > 1:
            statuses[words[1]] = "FAILED" if line.startswith("FAIL:") else "ERROR"
        if line.startswith("ok") and test is not None:  # the test has printed something before its end
            statuses[test] = "PASSED"
    return statuses | dict.fromkeys(_interrupted(log), "PASSED")


def _interrupted(log: str) -> Iterator[str]:
    """Tests of Django between whose name and `ok` a long message stands."""
    yield from (match[1] for match in _DJANGO_INTERRUPTED.finditer(log))
    at = 0
    while (start := _DJANGO_SETUP.search(log, at)) and (end := _DJANGO_SETUP_END.search(log, start.end())):
        yield start[1]
        at = end.end()


def read_sympy(log: str) -> Statuses:
    """Read a log of sympy's runner: `test_x ok`, `test_x F`, `test_x E`, and headings of failures."""
    statuses: Statuses = {}
    for line in _lines(log):
        if ".py:" in line and (match := _SYMPY_FAILURE.search(line)):
            statuses[f"{match[1]}.py:{match[2]}"] = "FAILED"
    ends: Mapping[str, Status] = {" ok": "PASSED", " F": "FAILED", " E": "ERROR"}
    for line in map(str.strip, _lines(log)):
        end = next((end for end in ends if line.endswith(end)), None)
        if line.startswith("test_") and end is not None:
            statuses[line.split()[0]] = ends[end]
    return statuses


def _lines(log: str) -> Iterator[str]:
    return (line.rstrip("\r") for line in log.split("\n") if len(line) <= _LONGEST)


READERS: Mapping[str, Callable[[str], Statuses]] = {
    "django/django": read_django,
    "matplotlib/matplotlib": read_matplotlib,
    "mwaskom/seaborn": read_seaborn,
    "psf/requests": read_short_paths,
    "pydicom/pydicom": read_short_paths,
    "pylint-dev/pylint": read_short_paths,
    "sympy/sympy": read_sympy,
}
"""Readers of the repositories that need one of their own."""
