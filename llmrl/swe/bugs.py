"""Small functions with a bug of one line, generated: tasks for a model of a million parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

BODIES: Mapping[str, tuple[str, Callable[[int, int], int]]] = {
    "add": ("{a} + {b}", lambda a, b: a + b),
    "subtract": ("{a} - {b}", lambda a, b: a - b),
    "multiply": ("{a} * {b}", lambda a, b: a * b),
    "larger": ("max({a}, {b})", max),
    "smaller": ("min({a}, {b})", min),
    "first": ("{a}", lambda a, b: a),
    "second": ("{b}", lambda a, b: b),
    "distance": ("abs({a} - {b})", lambda a, b: abs(a - b)),
}
"""Names of functions, each with the expression that it returns, and its value."""
ARGUMENTS = (("a", "b"), ("x", "y"), ("m", "n"), ("p", "q"), ("left", "right"), ("i", "j"))
MODULES = ("calc", "tools", "ops", "num")
INPUTS = ((5, 3), (2, 7), (4, 9), (8, 6))
"""Every two functions differ on some of these."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A function that returns what another should."""

    name: str
    wrong: str  # the function whose expression it returns
    arguments: tuple[str, str]
    module: str

    @property
    def id(self) -> str:
        """Name of the task."""
        return f"{self.module}.{self.name}.{self.wrong}.{'_'.join(self.arguments)}"

    @property
    def path(self) -> str:
        """The file."""
        return f"{self.module}.py"

    def line(self, name: str) -> str:
        """The line that returns the expression of a function."""
        a, b = self.arguments
        return f"    return {BODIES[name][0].format(a=a, b=b)}"

    def text(self, name: str) -> str:
        """The whole file, with the expression of a function."""
        return f"def {self.name}({', '.join(self.arguments)}):\n{self.line(name)}\n"

    def issue(self) -> str:
        """An input on which the function is wrong, and what it should return."""
        inputs = next(pair for pair in INPUTS if self._value(self.wrong, pair) != self._value(self.name, pair))
        return f"{self.name}{inputs} must be {self._value(self.name, inputs)}."

    def tests(self) -> str:
        """Tests by unittest: a method for each input."""
        lines = [
            "import unittest",
            "",
            f"from {self.module} import {self.name}",
            "",
            "",
            "class Tests(unittest.TestCase):",
        ]
        for number, inputs in enumerate(INPUTS):
            call = f"self.assertEqual({self.name}{inputs}, {self._value(self.name, inputs)})"
            lines += [f"    def test_{number}(self):", f"        {call}", ""]
        return "\n".join(lines)

    def outcomes(self) -> tuple[list[str], list[str]]:
        """Ids of the tests that fail before the repair, and of those that pass."""
        fails: list[str] = []
        passes: list[str] = []
        for number, inputs in enumerate(INPUTS):
            agree = self._value(self.wrong, inputs) == self._value(self.name, inputs)
            (passes if agree else fails).append(f"test_{self.module}.Tests.test_{number}")
        return fails, passes

    def repair(self) -> str:
        """An answer that repairs it, in SWE-RL's form."""
        lines = [f"### {self.path}", "<<<<<<< SEARCH", self.line(self.wrong), "=======", self.line(self.name)]
        edit = "\n".join([*lines, ">>>>>>> REPLACE"])
        return f"<think>\n{self.name}\n</think>\n<solution>\n```python\n{edit}\n```\n</solution>"

    def info(self) -> dict[str, Any]:
        """Columns that the rewards `swe_similarity` and `swe_tests` read."""
        fails, passes = self.outcomes()
        return {
            "problem_statement": self.issue(),
            "files": {self.path: self.text(self.wrong)},
            "oracle_new": {self.path: self.text(self.name)},
            "test_files": {f"test_{self.module}.py": self.tests()},
            "test_runner": "unittest",
            "FAIL_TO_PASS": fails,
            "PASS_TO_PASS": passes,
            "kind": self.name,
            "bug": self.id,
        }

    def _value(self, name: str, inputs: tuple[int, int]) -> int:
        return BODIES[name][1](*inputs)


def bugs(modules: int = len(MODULES), arguments_of: int = len(ARGUMENTS)) -> Iterator[Bug]:
    """Yield every bug in the first so many modules, with the first so many pairs of arguments."""
    for module in MODULES[:modules]:
        for arguments in ARGUMENTS[:arguments_of]:
            for name, wrong in permutations(BODIES, 2):
                yield Bug(name, wrong, arguments, module)
