"""Runs tests of a project, and reports the status of each on a descriptor of its own. The text runs inside the walls.

Its parent sends the task on standard input: a key, by which each report is signed, and which tests to run. What a
program prints is never read. A canary test of ours, which must fail, runs last: where it passes, or is missing, or the
exit status does not tell of it, somebody has changed the test framework, and the run is void. It passes where a
function by which tests run or compare is no longer the framework's own.

Old interpreters run this: no syntax and no module that Python 3.6 does not have.
"""

import hashlib
import hmac
import json
import os
import sys
from typing import Any

CANARY = "llmrl_canary"


def teller(end: int, key: bytes) -> Any:
    """Make the function that writes a report as a signed line: number, report, digest."""
    count = [0]

    def tell(report: Any) -> None:
        body = json.dumps([count[0], report])
        count[0] += 1
        data = (body + "\t" + hmac.new(key, body.encode(), hashlib.sha256).hexdigest() + "\n").encode()
        while data:
            data = data[os.write(end, data) :]

    return tell


def status_of_phase(when: str, outcome: str, xfail: bool) -> str:
    """Status that pytest's summary gives to a phase of a test; "" for a phase that tells nothing."""
    if outcome == "passed":
        return "" if when != "call" else "XPASS" if xfail else "PASSED"
    if outcome == "skipped":
        return "XFAIL" if xfail else "SKIPPED"
    return "FAILED" if when == "call" else "ERROR"


def functions_of(*holders: Any) -> Any:
    """List functions and classes of modules and classes: holder, name, value."""
    return [(holder, name, value) for holder in holders for name, value in vars(holder).items() if callable(value)]


def fail_unless_replaced(functions: Any) -> None:
    """Fail, as the canary must, while each of these is what it was."""
    if all(vars(holder).get(name) is value for holder, name, value in functions):
        raise AssertionError(CANARY)


def run_pytest(arguments: Any, tell: Any, enter: Any) -> int:
    """Run pytest in this process; return its exit status."""
    import unittest

    import pytest

    compare = type(pytest.raises(ValueError)), type(pytest.approx(1.0))  # noqa: PT011
    functions = functions_of(pytest, pytest.Item, pytest.Function, unittest, unittest.TestCase, *compare)

    class Canary(pytest.Item):
        def runtest(self) -> None:
            fail_unless_replaced(functions)

        def reportinfo(self) -> Any:
            return self.fspath, None, CANARY

    class Reporter:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, session: Any, items: Any) -> None:
            made = getattr(Canary, "from_parent", None)
            items.append(made(session, name=CANARY) if made else Canary(CANARY, session))

        def pytest_runtest_logreport(self, report: Any) -> None:
            status = status_of_phase(report.when, report.outcome, hasattr(report, "wasxfail"))
            if status:
                tell({"test": CANARY if report.nodeid.endswith(CANARY) else report.nodeid, "status": status})

    enter()
    options = ["-rA", "-p", "no:cacheprovider", "--color=no"]
    return int(pytest.main(options + list(arguments), plugins=[Reporter()]))


def run_unittest(arguments: Any, tell: Any, enter: Any) -> int:
    """Run unittest in this process; 1 where a test failed, as its program exits."""
    import unittest

    functions = functions_of(unittest, unittest.TestCase)

    class Canary(unittest.TestCase):
        def runTest(self) -> None:  # noqa: N802
            fail_unless_replaced(functions)

    class Result(unittest.TextTestResult):
        def _tell(self, test: Any, status: str) -> None:
            names = [CANARY] if isinstance(test, Canary) else [test.id()]
            method = getattr(test, "_testMethodName", "")
            if method and names != [CANARY]:  # as old versions, and Django's logs, write it
                names.append(method + " (" + type(test).__module__ + "." + type(test).__qualname__ + ")")
            for name in names:
                tell({"test": name, "status": status})

        def addSuccess(self, test: Any) -> None:  # noqa: N802
            super().addSuccess(test)
            self._tell(test, "PASSED")

        def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
            super().addFailure(test, err)
            self._tell(test, "FAILED")

        def addError(self, test: Any, err: Any) -> None:  # noqa: N802
            super().addError(test, err)
            self._tell(test, "ERROR")

        def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
            super().addSkip(test, reason)
            self._tell(test, "SKIPPED")

        def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
            super().addExpectedFailure(test, err)
            self._tell(test, "XFAIL")

        def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
            super().addUnexpectedSuccess(test)
            self._tell(test, "XPASS")

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
            super().addSubTest(test, subtest, err)
            if err is not None:
                self._tell(test, "FAILED")

    enter()
    suite = unittest.defaultTestLoader.loadTestsFromNames(list(arguments))
    suite.addTest(Canary())
    made: Any = Result
    return 0 if unittest.TextTestRunner(resultclass=made, verbosity=2).run(suite).wasSuccessful() else 1


RUNNERS = {"pytest": run_pytest, "unittest": run_unittest}


def main() -> None:
    """Read the task, run its tests, report how that ended, and exit with the same status."""
    task = json.loads(sys.stdin.buffer.read().decode())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    end = int(sys.argv[1])
    os.set_inheritable(end, False)
    tell = teller(end, bytes.fromhex(task["key"]))
    sys.path[:0] = task["packages"]
    sys.argv[:] = [task["runner"]]

    def enter() -> None:
        tell({"start": task["runner"]})  # nothing of the project has run: what fails from here on is its own doing
        sys.path[:0] = task["path"]  # after the framework is loaded: a module of the project's cannot stand for it

    code = RUNNERS[task["runner"]](task["arguments"], tell, enter)
    tell({"end": code})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
