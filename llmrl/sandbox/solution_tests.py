"""The tests of a programming problem, read from the columns that datasets have."""

from __future__ import annotations

import ast
import builtins
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Functions:
    """Statements that call what a solution defines."""

    tests: Sequence[str]
    names: Sequence[str]  # names of the solution that the tests call
    preamble: str = ""  # trusted code that the tests need: helpers, imports
    setup: str = ""  # the same, with the solution's names at hand
    prompt: str = ""  # code that the answer may continue

    def task(self) -> dict[str, Any]:
        """The tests as plain values, for the process that runs them."""
        return {"tests": self.tests, "names": self.names, "preamble": self.preamble, "setup": self.setup}

    def complete(self, answer: str) -> str:
        """Build the program: the prompt continued, or its helpers and an answer that defines the function itself."""
        if not self.prompt:
            return answer
        names = "|".join(map(re.escape, self.names))
        stub = re.search(rf"^(?:async[ ]+)?def[ ]+(?:{names})\b", self.prompt, re.MULTILINE)
        whole = re.search(rf"^(?:(?:async[ ]+)?def|class)[ ]+(?:{names})\b|^(?:{names})[ ]*=", answer, re.MULTILINE)
        first = next((line for line in answer.splitlines() if line.strip()), "")
        if whole and not first[0].isspace():
            return self.prompt[: stub.start() if stub else 0] + "\n" + answer
        return self.prompt + answer


@dataclass(frozen=True)
class Programs:
    """Pairs of standard input and the output that must be printed."""

    pairs: Sequence[tuple[str, str]]


def read(info: Mapping[str, Any]) -> Functions | Programs:
    """Read the tests of a problem.

    Raises:
        ValueError: there are none in a form that is known, or they are no Python.
    """
    if "test" in info and "entry_point" in info:
        return humaneval(str(info.get("prompt", "")), str(info["test"]), str(info["entry_point"]))
    if "test_list" in info:
        return mbpp(list(info["test_list"]), str(info.get("test_setup_code") or ""), str(info.get("code") or ""))
    if "tests" in info and "entry_point" in info:
        return Functions(list(info["tests"]), [str(info["entry_point"])], str(info.get("setup") or ""))
    if "verification_info" in info:
        return Programs(open_r1(info["verification_info"]))
    packed = info.get("input_output", info)
    pairs = json.loads(packed) if isinstance(packed, str) else packed
    if isinstance(pairs, Mapping) and "inputs" in pairs and "outputs" in pairs and not pairs.get("fn_name"):
        given, wanted = list(pairs["inputs"]), list(pairs["outputs"])
        if given and len(given) == len(wanted) and all(isinstance(text, str) for text in given + wanted):
            return Programs(list(zip(given, wanted, strict=True)))
        raise ValueError(f"{len(given)} inputs and {len(wanted)} outputs; expected as many, at least one, all text")
    raise ValueError(
        "the problem has no tests; expected info with test and entry_point, test_list, tests and entry_point, "
        f"input_output, inputs and outputs, or verification_info; found {', '.join(info) or 'no columns'}"
    )


def open_r1(column: Mapping[str, Any] | str) -> list[tuple[str, str]]:
    """The inputs and outputs of open-r1's datasets of programs."""
    tests = json.loads(column) if isinstance(column, str) else column
    cases, language = list(tests.get("test_cases") or []), tests.get("language") or "python"
    texts = [(case.get("input"), case.get("output")) for case in cases if not case.get("fn_name")]
    if language != "python" or not cases or not all(isinstance(text, str) for pair in texts for text in pair):
        raise ValueError(f"verification_info: {len(cases)} tests in {language}; expected some in python, all text")
    if len(texts) < len(cases):
        raise ValueError("verification_info: tests that call a function; expected programs, with input and output")
    return texts


def humaneval(prompt: str, test: str, entry_point: str) -> Functions:
    """Make a test of each statement of `check`, so that the share of passed tests is known."""
    tree = _parse(test)
    check = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"), None)
    if check is None or any(isinstance(node, ast.Return | ast.Nonlocal | ast.Global) for node in ast.walk(check)):
        return Functions([f"{test}\ncheck({entry_point})"], [entry_point], prompt, prompt=prompt)
    rest = "\n".join(ast.unparse(node) for node in tree.body if node is not check)
    argument = check.args.args[0].arg if check.args.args else "candidate"
    return Functions(
        [ast.unparse(node) for node in check.body],
        [entry_point],
        f"{prompt}\n{rest}",
        f"{argument} = {entry_point}",
        prompt,
    )


def mbpp(tests: Sequence[str], setup: str, code: str) -> Functions:
    """Find the solution's names: those that the tests use and nobody else defines, or that the reference defines."""
    trees = [_parse(text) for text in (setup, *tests)]
    used, bound = set[str](), set[str]()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.alias):
                bound.add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound.add(node.name)
    own = _defined(code) & used
    free = used - bound - set(dir(builtins)) - own
    modules = {name for name in free if name in sys.stdlib_module_names}
    imports = "\n".join(f"import {name}" for name in sorted(modules))
    return Functions(tests, sorted(own | (free - modules)), imports, setup)


def _defined(code: str) -> set[str]:
    """Functions and classes at the top of a reference solution."""
    return {
        node.name
        for node in (_parse(code).body if code else [])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"the tests are no Python: {error}") from None
