"""Logs of tests in the forms of SWE-bench's repositories; its own package reads them the same."""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmrl.swe import logs
from llmrl.swe.logs import FAULTS, READERS, harness_statuses, read_log
from tests.swe_files import rows

LOGS = {
    "django/django": """\
test_a (a.tests.ATests) ... ok
test_b (a.tests.ATests) ... FAIL
test_c (a.tests.ATests) ... ERROR
test_d (a.tests.ATests) ... skipped 'no database'
test_e (a.tests.ATests) ... warning: something
ok
test_f (a.tests.ATests) ... Testing against Django installed in '/x' with 2
System check identified no issues (0 silenced).
ok
test_g (a.tests.ATests) ... Internal Server Error: /x/
ok
Applying sites.0002_alter_domain_unique...test_no_migrations (b.tests.BTests) ... ok
FAIL: test_h (a.tests.ATests)
ERROR: test_i (a.tests.ATests)
ERROR:
""",
    "sympy/sympy": """\
test_a ok
test_b F
test_c E
test_d[x] ok [OK]
________ sympy/core/tests/test_x.py:test_b ________
""",
    "mwaskom/seaborn": "a.py::b PASSED [ 5%]\nPASSED a.py::c\nFAILED a.py::d - x\nERROR a.py::c\nx PASSED \n",
    "matplotlib/matplotlib": "PASSED a.py::b[MouseButton.LEFT-x]\nFAILED a.py::c[a - b] - x\nSKIPPED [2] a.py:3: x\n",
    "psf/requests": "PASSED a.py::b[/x/y/z]\nPASSED a.py::c[//x/y]\nERROR a.py::d[/x/*]\nPASSED a.py::e[/x/y\n",
    "astropy/astropy": "a.py::b[x y] PASSED\n\x1b[32mPASSED\x1b[0m a.py::c[x y]\nFAILED a.py::d[x y] - E - F\nXFAIL a",
    "pydata/xarray": "PASSED a.py::b[x y]\nFAILED a.py::b[x z] - E\nPASSED [100%]\nXPASS a.py::c\nERRORS x\nERROR x.py",
}
EXPECTED = {
    "django/django": {
        **{f"test_{name} (a.tests.ATests)": "PASSED" for name in "aefg"},
        "test_b (a.tests.ATests)": "FAILED",
        "test_c (a.tests.ATests)": "ERROR",
        "test_d (a.tests.ATests)": "SKIPPED",
        "test_no_migrations (b.tests.BTests)": "PASSED",
        "test_h": "FAILED",
        "test_i": "ERROR",
    },
    "sympy/sympy": {
        "test_a": "PASSED",
        "test_b": "FAILED",
        "test_c": "ERROR",
        "sympy/core/tests/test_x.py:test_b": "FAILED",
    },
    "mwaskom/seaborn": {"a.py::b": "PASSED", "a.py::c": "PASSED", "a.py::d": "FAILED", "x": "PASSED"},
    "matplotlib/matplotlib": {"a.py::b[1-x]": "PASSED", "a.py::c[a": "FAILED"},
    "psf/requests": {
        "a.py::b[/z]": "PASSED",
        "a.py::c[//x/y]": "PASSED",
        "a.py::d[/x/*]": "ERROR",
        "a.py::e[/x/y": "PASSED",
    },
    "astropy/astropy": {"a.py::b[x y]": "PASSED", "a.py::c[x y]": "PASSED", "a.py::d[x y]": "FAILED", "a": "XFAIL"},
    "pydata/xarray": {"a.py::b[x": "FAILED", "[100%]": "PASSED", "x.py": "ERROR"},
}


@pytest.mark.parametrize("repo", LOGS)
def test_the_form_of_each_repository(repo: str) -> None:
    assert read_log(LOGS[repo], repo) == EXPECTED[repo]


def test_every_repository_of_the_benchmark_has_a_reader(shared_data: Path) -> None:
    assert {row["repo"] for row in [*rows(shared_data, "lite"), *rows(shared_data, "verified")]} <= set(READERS)


MARKED = ">>>>> Start Test Output\n{}\n>>>>> End Test Output\n{}"


@pytest.mark.parametrize(
    ("log", "statuses"),
    [
        (MARKED.format("PASSED a.py::b", ""), {"a.py::b": "PASSED"}),
        (MARKED.format("PASSED a.py::b", ">>>>> Test Exit Code: 0"), {"a.py::b": "PASSED"}),
        (MARKED.format("FAILED a.py::b", ">>>>> Test Exit Code: 1"), {"a.py::b": "FAILED"}),
        ("PASSED a.py::b\n" + MARKED.format("", ""), {"a.py::b": "PASSED"}),  # as on machines with two streams
        (MARKED.format("PASSED a.py::b", ">>>>> Test Exit Code: 1"), None),  # lines that no test printed
        (MARKED.format(">>>>> Test Exit Code: 0\nPASSED a.py::b", ">>>>> Test Exit Code: 1"), None),
        (MARKED.format("no test", ""), None),
        ("PASSED a.py::b", None),
        *((MARKED.format("PASSED a.py::b", fault), None) for fault in FAULTS),
    ],
)
def test_what_is_no_evidence_has_no_statuses(log: str, statuses: dict[str, str] | None) -> None:
    assert harness_statuses(log, "pydata/xarray") == statuses


@pytest.mark.parametrize("repo", READERS)
def test_the_package_reads_logs_the_same(repo: str, shared_data: Path) -> None:
    """Real logs, the ones above, and those with lines exchanged, cut and joined."""
    parsers = pytest.importorskip("swebench.harness.log_parsers.python", exc_type=ImportError)
    theirs = parsers.MAP_REPO_TO_PARSER_PY[repo]
    statuses = {status.value for status in parsers.TestStatus}
    real = [path.read_text(errors="replace") for path in sorted(shared_data.glob("swe_smith_logs/*/test_output.txt"))]
    lines = [line for log in [*real, *LOGS.values()] for line in log.split("\n")]
    draws = random.Random(repo)
    broken = ["\n".join(_broken(draws, lines) for _ in range(40)) for _ in range(150)]
    for log in [*real, *LOGS.values(), *broken]:
        try:
            expected = theirs(log, SimpleNamespace(repo=repo))
        except IndexError:  # a line `FAIL:` without a name
            continue
        assert READERS[repo](log) == {test: how for test, how in expected.items() if how in statuses}


def test_interrupted_tests_of_django_are_read_as_by_one_expression() -> None:
    """The package's expression, which takes the square of a line's length; random pieces of what it looks for."""
    check = r"System check identified no issues \(0 silenced\)"
    whole = re.compile(rf"^(.*?)\s\.\.\.\s(?:Internal Server Error: /.*/|{check})\nok$", re.MULTILINE)
    pieces = ["a", "b", " ... ", "\n...\n", " ...\n", "\n... ", "Internal Server Error: /", "/", "\n", "ok", " "]
    pieces += [check.replace("\\", ""), "\nok", "\nok\n", "x/y/"]
    draws = random.Random(0)
    for _ in range(20_000):
        text = "".join(draws.choices(pieces, k=draws.randint(3, 9)))
        assert [test for test, _ in logs._django_interrupted(text)] == [match[1] for match in whole.finditer(text)]


def _broken(draws: random.Random, lines: list[str]) -> str:
    line, other = draws.choice(lines), draws.choice(list(LOGS.values())).split("\n")
    kind = draws.randrange(5)
    words = [*line.split(" "), *draws.choice(other).split(" ")]
    if kind == 0:
        draws.shuffle(words)
        return " ".join(words)
    if kind == 1:
        return line[draws.randrange(len(line) + 1) :]
    return draws.choice([line, draws.choice(other), draws.choice(other) + "\t" + line])
