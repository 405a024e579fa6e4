"""Programs: solutions and repairs whose tests run in the sandbox, tools, and agents that are programs."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from llmrl.recipe import RolloutOptions
from llmrl.rollout.agent_worker import AgentWorker
from llmrl.sandbox import run
from llmrl.types import Problem
from tests.felt.foreign import call_of, calls, playing, say
from tests.felt.probe import Options, Probe
from tests.felt.rewards import answers, problem, scoring

KEPT = "FELT_KEPT"
CODE: Options = {"min_level": "subprocess", "timeout_s": 20.0}
DOUBLE = {"tests": ["assert f(2) == 4", "assert f(-1) == -2"], "entry_point": "f"}
BUGGY = "def add(a, b):\n    return a - b\n"
TESTS = """import unittest
from calc import add

class Sums(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    def test_more(self):
        self.assertEqual(add(2, 4), 6)
"""
INFO: Mapping[str, Any] = {
    "problem_statement": "add(2, 3) must be 5.",
    "files": {"calc.py": BUGGY, "notes.py": "# " + "x" * 50 + "\n"},
    "oracle_new": {"calc.py": BUGGY.replace("a - b", "a + b")},
    "test_files": {"test_calc.py": TESTS},
    "test_runner": "unittest",
    "FAIL_TO_PASS": ["test_calc.Sums.test_add", "test_calc.Sums.test_more"],
}
DIFF = "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return {}\n"
BED: Options = {"timeout_s": 30.0, "packages": []}


def block(source: str) -> str:
    """An answer in Python."""
    return f"```python\n{source}\n```"


def edit(search: str, replacement: str) -> str:
    """An answer that edits a line."""
    lines = ["### calc.py", "<<<<<<< SEARCH", search, "=======", replacement, ">>>>>>> REPLACE"]
    return f"<think>so</think><solution>{block(chr(10).join(lines))}</solution>"


def walls(sandbox: Callable[[Any], run.Sandbox], *works: str) -> Callable[[Any], Any]:
    """A use: the level at which programs would run on a machine where these work."""

    def use(owner: Any) -> Any:
        with patch.object(run, "probe", lambda level: "" if level in works else "not here"):
            return sandbox(owner).in_force()

    return use


def levels(sandbox: Callable[[Any], run.Sandbox], *fields: str, base: Options) -> list[Probe]:
    """Probes of the walls: on a machine that has all of them, and on one with little."""
    less = {"min_level": ["bubblewrap", "uid"], "level": []}
    more = {"level": ["unshare", "bubblewrap"], "min_level": []}
    probes = [
        Probe(use=walls(sandbox, "unshare"), base=base, values=less, only=True, refusals=True),
        Probe(use=walls(sandbox, "unshare", "bubblewrap"), base=base, values=more, only=True),
    ]
    return probes[: len(fields)]


def probes() -> dict[str, list[Probe]]:
    return {
        "reward code": _code(),
        "reward swe_tests": _repairs(),
        "reward swe_patch": _patches(),
        "reward swe_similarity": [
            Probe(
                use=scoring(
                    answers(problem(**INFO), edit("    return a - b", f"    return a + b  # {'x' * 500}"), "no")
                ),
                values={"max_characters": [400]},
            )
        ],
        "env swe": _agents(),
        "agent command": _commands(),
    }


def _code() -> list[Probe]:
    half, slow, large, imports = (
        "def f(x): return 4",
        "import time; time.sleep(1)\ndef f(x): return 2 * x",
        "y = bytearray(250 << 20)\ndef f(x): return 2 * x",
        "import packaging\ndef f(x): return 2 * x",
    )

    def graded(source: str) -> Callable[[Any], Any]:
        return lambda reward: reward(Problem(id="p", messages=(), info=DOUBLE), block(source))

    def probe(source: str, **values: Any) -> Probe:
        base = {"packages": [], **CODE}
        return Probe(use=_unclocked(graded(source)), base=base, values=values, only=True, refusals=True)

    return [
        probe(half, credit=["share"]),
        probe(slow, timeout_s=[0.5]),
        probe(large, memory_mb=[128]),
        probe(imports, packages=[["packaging"]]),
        *levels(lambda reward: reward.sandbox, "min_level", "level", base={}),
    ]


def _unclocked(use: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A use whose score is told without its words, which may name seconds."""

    def told(owner: Any) -> Any:
        score = use(owner)
        return score.value, score.verdict, dict(score.parts)

    return told


@lru_cache
def clones() -> tuple[str, str]:
    """A folder of clones with one of `a/b`, and its commit."""
    root = Path(mkdtemp(prefix="felt-"))
    place = root / "a__b"
    place.mkdir()
    for name, text in INFO["files"].items():
        (place / name).write_text(text)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run(["git", *who, *words], cwd=place, check=True, timeout=30)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True)
    return str(root), head.stdout.strip()


def _of_a_clone() -> Mapping[str, Any]:
    files = {name: value for name, value in INFO.items() if name != "files"}
    return {**files, "repo": "a/b", "base_commit": clones()[1]}


def _bed(use: Callable[..., Callable[[Any], Any]], base: Options) -> list[Probe]:
    """Probes of the options by which tests run; `use` takes an instance and a repair."""
    right = "a + b"
    slow = {**INFO, "test_files": {"test_calc.py": f"import time; time.sleep(1)\n{TESTS}"}}
    large = {**INFO, "test_files": {"test_calc.py": f"x = bytearray(250 << 20)\n{TESTS}"}}
    imports = {**INFO, "test_files": {"test_calc.py": f"import packaging\n{TESTS}"}}
    logs = mkdtemp(prefix="felt-logs-")

    def logged(owner: Any) -> Any:
        for path in Path(logs).iterdir():
            path.unlink()
        return use(INFO, right)(owner), len(list(Path(logs).iterdir()))

    sandbox: Callable[[Any], run.Sandbox] = lambda owner: owner.options().sandbox  # noqa: E731
    return [
        Probe(use=use(slow, right), base=base, values={"timeout_s": [0.5]}, only=True, refusals=True),
        Probe(use=use(large, right), base=base, values={"memory_mb": [128]}, only=True, refusals=True),
        Probe(use=use(imports, right), base=base, values={"packages": [["packaging"]]}, only=True, refusals=True),
        Probe(use=logged, base=base, values={"logs": [logs]}, only=True),
        Probe(use=use(_of_a_clone(), right), base=base, values={"repos": [clones()[0]]}, only=True, refusals=True),
        Probe(
            use=use(INFO, right),
            base=base,
            values={"environment": ["/nowhere"], "container": ["no/such:image"]},
            only=True,
            refusals=True,
        ),
        *levels(sandbox, "min_level", "level", base=base),
    ]


def _repairs() -> list[Probe]:
    def graded(info: Mapping[str, Any], right: str, form: Callable[[str], str] = DIFF.format) -> Callable[[Any], Any]:
        asked = Problem(id="p", messages=(), info=info)
        return _unclocked(lambda reward: reward(asked, f"```diff\n{form(right)}```"))

    shares = {
        **INFO,
        "test_files": {"test_calc.py": TESTS.replace("6)", "2 * 4 - 2)").replace("add(2, 4)", "add(0, 6)")},
    }
    half = "a + b if b == 3 else 0"
    return [
        *_bed(graded, BED),
        Probe(use=graded(shares, half), base=BED, values={"credit": ["share"]}, only=True),
        Probe(
            use=graded(INFO, "", lambda right: "no repair"),
            base=BED,
            values={"malformed": [-1.0]},
            only=True,
        ),
        Probe(use=graded(INFO, "a + b"), base=BED, values={"form": ["strict"]}, only=True),
    ]


def _patches() -> list[Probe]:
    info = {**_of_a_clone(), "patch": DIFF.format("a + b")}
    group = answers(problem(**info), DIFF.format("a + b + 0"), "no diff")
    return [
        Probe(
            use=scoring(group),
            values={"repos": [clones()[0]], "max_characters": [20], "tests": []},
        ),
        Probe(
            use=scoring(answers(problem(**INFO, patch=DIFF.format("a + b")), DIFF.format("a + b"))),
            values={"tests": [{"timeout_s": 5.0, "packages": []}]},
            only=True,
        ),
    ]


def _agents() -> list[Probe]:
    def repaired(info: Mapping[str, Any], right: str) -> Callable[[Any], Any]:
        change = call_of("str_replace", path="calc.py", old="a - b", new=right)
        asked = Problem(id="p", messages=[say("Repair it.")], info=info)
        return _paid(playing(change, call_of("submit"), asked=asked))

    def acted(*messages: Any) -> Callable[[Any], Any]:
        asked = Problem(id="p", messages=[say("Repair it.")], info=INFO)
        return playing(*messages, asked=asked)

    look = call_of("view", path="notes.py")
    return [
        *_bed(repaired, BED),
        Probe(use=repaired(INFO, "a + b if b == 3 else 0"), base=BED, values={"credit": ["share"]}, only=True),
        Probe(
            use=acted(calls(look, look, look), look),
            base=BED,
            values={"max_calls": [2], "max_characters": [20], "max_steps": [1]},
            only=True,
        ),
        Probe(
            use=acted(call_of("bash", command="sleep 1; echo 1")),
            base=BED,
            values={"command_timeout_s": [0.3]},
            only=True,
        ),
    ]


def _paid(use: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A use whose episode is told by its last reward and verdict alone: texts may name seconds."""

    def told(owner: Any) -> Any:
        last = use(owner)[-1]
        return last.reward, last.verdict, last.done

    return told


def _commands() -> list[Probe]:
    seen = Problem(id="p", messages=[{"role": "user", "content": "Go."}], info={"level": 3})

    def ran(program: Any) -> Any:
        os.environ[KEPT] = "kept"
        return asyncio.run(program.run(seen, "http://127.0.0.1:9/v1", "key"))

    tells = ["sh", "-c", f"echo $FELT_OWN ${KEPT}; pwd; cat $LLMRL_TASK_FILE; exit 3"]
    waits = ["sh", "-c", "sleep 0.6; exit 3"]
    return [
        Probe(
            use=ran,
            base={"command": tells},
            values={
                "command": [["sh", "-c", "exit 0"]],
                "crash": ["cut"],
                "env": [{"FELT_OWN": "own"}],
                "inherit": [[KEPT]],
                "info": [["level"]],
                "cwd": ["/"],
                "timeout_s": [],
                "max_open": [],
            },
        ),
        Probe(use=ran, base={"command": waits}, values={"timeout_s": [0.1]}, only=True),
        Probe(use=_at_once, base={"command": tells}, values={"max_open": [1]}, only=True),
    ]


def _at_once(program: Any) -> Any:
    """Count the programs that a worker runs at once."""
    worker: Any = SimpleNamespace(agent=program, options=RolloutOptions())
    return AgentWorker._most_at_once(worker)
