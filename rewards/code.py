"""Programs and functions in Python, judged by running tests on them in a sandbox."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from llmrl.answers.delimited import fenced
from llmrl.answers.thoughts import after_thoughts
from llmrl.errors import RewardError
from llmrl.recipe.ranges import Seconds
from llmrl.sandbox import solution_channel, solution_judge, solution_server, solution_values
from llmrl.sandbox.inmate import Outcome, Program
from llmrl.sandbox.isolation import Level, Limits
from llmrl.sandbox.run import Sandbox
from llmrl.sandbox.solution_tests import Functions, Programs, read
from llmrl.scoring.manager import GradingPool, GroupScorer, VerifierReward
from llmrl.types import Problem, Score

MOST = 100_000  # bytes of a solution
ROOM_S = 0.5  # of the grader's own, before the pool's limit
RUN = """import sys
main = type(sys)("__main__")
main.__builtins__, main.exit, main.quit = __builtins__, sys.exit, sys.exit
source = sys.argv.pop()
sys.argv[0], sys.modules["__main__"] = "solution.py", main
exec(compile(source, "solution.py", "exec"), vars(main))
"""
Ending = Literal["passed", "failed", "raised", "broken"]
ENDINGS: Mapping[Ending, float] = {"passed": 1.0, "failed": -0.3, "raised": -0.6, "broken": -1.0}
"""Values of `credit: ending`: CodeRL's rewards (Le et al. 2022, arXiv 2207.01780)."""
BROKEN = re.compile(r"(?:Syntax|Indentation|Tab)Error")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Code:
    """1.0 if the last block of Python in the answer passes every test, else 0.0; or the share of tests that it passes.

    Tests come from `problem.info`, in the columns of HumanEval (`test`, `entry_point`; Chen et al. 2021, arXiv
    2107.03374), of MBPP (`test_list`; Austin et al. 2021, arXiv 2108.07732), of APPS (`input_output`, or `inputs` and
    `outputs`: standard input and what must be printed), of open-r1 (`verification_info`: the same), or `tests`:
    statements, with `entry_point`. Expected results never enter the process that runs the answer: see docs/sandbox.md.
    The verdict is `correct` if all tests pass.

    Raises:
        ValueError: the problem has no such tests, or they are broken.
        SandboxError: code cannot be run here at level `min_level` or above.
    """

    credit: Literal["all", "share", "ending"] = "all"  # ending: by the worst that happened, see `ENDINGS`
    timeout_s: Seconds = 4.0  # for all tests of an answer together, starts included; below `rollout.reward_timeout_s`
    memory_mb: int = 1024
    min_level: Level = "unshare"  # weaker walls are refused
    level: Level | None = None  # exactly these walls; null: the strongest that work here
    packages: Sequence[str] = ("numpy",)  # of llmrl's environment, that answers and tests may import

    def __post_init__(self) -> None:
        _ = self.sandbox

    @property
    def sandbox(self) -> Sandbox:
        limits = Limits(wall_s=self.timeout_s, cpu_s=self.timeout_s, memory_mb=self.memory_mb)
        return Sandbox(self.min_level, self.level, limits, tuple(self.packages))

    def as_group_reward(self, pool: GradingPool) -> GroupScorer:
        """Make the group reward; the sandbox is tried out and its level logged first, before anything is sampled.

        Raises:
            RewardError: the pool's time limit is shorter than that of the tests.
            SandboxError: see above.
        """
        if pool.timeout_s < self.timeout_s + ROOM_S:
            raise RewardError(
                f"reward code: timeout_s {self.timeout_s:g} and {ROOM_S:g} s for the grader itself do not fit into "
                f"rollout.reward_timeout_s {pool.timeout_s:g}; raise that, or lower timeout_s"
            )
        log.warning("reward code: answers run in a sandbox of level %s", self.sandbox.in_force())
        return VerifierReward("code", verifier=self, pool=pool)

    def warm_up(self) -> None:
        """Try the sandbox out, outside the first item's time."""
        self.sandbox.in_force()

    def __call__(self, problem: Problem, text: str) -> Score:
        tests = read(problem.info)
        answer = after_thoughts(text)
        block = fenced(answer)
        source = answer if block is None else block
        if not source.strip() or (block is None and "```" in answer):
            return Score(self._worst(), "unparsable", reason="no code in the answer, or its block is not closed")
        source = tests.complete(source) if isinstance(tests, Functions) else source
        if len(source.encode(errors="replace")) > MOST or "\0" in source:
            return Score(self._worst(), "unparsable", reason=f"more than {MOST} bytes of code, or none of Python's")
        source = source.encode(errors="replace").decode()
        score = self._functions(tests, source) if isinstance(tests, Functions) else self._programs(tests, source)
        bare = block is None and BROKEN.match(score.reason)
        return replace(score, verdict="unparsable") if bare else score

    def _functions(self, tests: Functions, source: str) -> Score:
        """Run the solution in a process and its tests in another."""
        start = time.monotonic()
        said, results, outcomes = self._tested(tests, source, self.timeout_s)
        left = self.timeout_s - (time.monotonic() - start)
        if "ready" not in said and left > 0:  # before anything of the answer ran, as may happen under load
            said, results, outcomes = self._tested(tests, source, left)
        if "ready" not in said:
            raise RewardError(f"the sandbox did not start: {outcomes[0].reason}; {outcomes[0].stderr.decode()[:300]}")
        if "broken" in said:
            raise ValueError(f"the tests are broken: {said['broken']}")
        if "load" in said:
            value = ENDINGS["broken" if BROKEN.match(said["load"]) else "raised"] if self.credit == "ending" else 0.0
            return Score(value, "wrong", {"tests": 0.0}, reason=said["load"])
        ended = next((o.reason for o in outcomes if o.kind not in ("exited", "stopped")), "")
        why = f"the solution {ended}" if ended else str(said.get("gone", ""))
        passed = sum(result["called"] and not result["test"] for result in results)
        asked = len(tests.tests) - sum(not result["called"] for result in results)
        failed = [f"test {n}: {result['test']}" for n, result in enumerate(results, 1) if result["test"]]
        raised = "end" not in said or any(result.get("raised") for result in results)
        ending: Ending = "raised" if raised else "failed"
        return self._score(passed, asked, (failed or [why])[0], whole="end" in said, ending=ending)

    def _tested(
        self, tests: Functions, source: str, left_s: float
    ) -> tuple[dict[str, Any], list[dict[str, Any]], list[Outcome]]:
        """Collect what the process with the tests reports, the results among it, and the ends of both processes."""
        ours, theirs = socket.socketpair()
        task = {"solution": source, "stop": self.credit == "all"} | tests.task()
        sandbox = replace(self.sandbox, limits=replace(self.sandbox.limits, wall_s=left_s))
        try:
            judge = Program(_script(solution_judge, ours), json.dumps(task).encode(), ours)
            solution = Program(_script(solution_server, theirs), b"", theirs)
            outcomes = sandbox.together(judge, solution)
        finally:
            ours.close()
            theirs.close()
        said: dict[str, Any] = {}
        results = []
        for line in outcomes[0].stdout.splitlines():
            message = json.loads(line)
            said |= message
            results += [message] if "test" in message else []
        return said, results, outcomes

    def _programs(self, tests: Programs, source: str) -> Score:
        """Run a process for each input, and compare its output here."""
        passed, why = 0, ""
        endings: list[Ending] = ["failed"]
        deadline = time.monotonic() + self.timeout_s
        for number, (given, wanted) in enumerate(tests.pairs, 1):
            left = deadline - time.monotonic()
            if left <= 0:
                why = why or f"took longer than {self.timeout_s:g} s"
                endings.append("raised")
                break
            sandbox = replace(self.sandbox, limits=replace(self.sandbox.limits, wall_s=left))
            outcome = sandbox.run(["python", "-c", RUN, source], given.encode())
            printed = outcome.stdout.decode(errors="replace")
            if outcome.kind == "exited" and outcome.code == 0 and same(printed, wanted):
                passed += 1
                continue
            last = (outcome.stderr.decode(errors="replace").strip().splitlines() or [""])[-1][:200]
            clean = outcome.kind == "exited" and outcome.code == 0
            told = f"printed {printed[:80]!r}, expected {wanted[:80]!r}" if clean else last or outcome.reason
            endings.append("failed" if clean else "broken" if BROKEN.match(last) else "raised")
            why = why or f"test {number}: {told}"
            if self.credit == "all":
                break
        return self._score(passed, len(tests.pairs), why, whole=True, ending=min(endings, key=lambda e: ENDINGS[e]))

    def _worst(self) -> float:
        """Value of an answer without a program."""
        return ENDINGS["broken"] if self.credit == "ending" else 0.0

    def _score(self, passed: int, asked: int, why: str, *, whole: bool, ending: Ending) -> Score:
        """Make the score; `ending` decides its value where the answer is not right."""
        right = whole and passed == asked > 0
        share = passed / asked if asked else 0.0
        value = {"all": float(right), "share": share, "ending": ENDINGS["passed" if right else ending]}[self.credit]
        reason = f"{passed} of {asked} tests passed"
        parts = {"tests": share}
        return Score(
            value,
            "correct" if right else "wrong",
            parts,
            reason=reason if right else f"{why or 'no test called it'}; {reason}",
        )


def same(printed: str, wanted: str) -> bool:
    """Compare two outputs but for blanks at the ends of lines and empty lines at the end."""
    return [line.rstrip() for line in printed.rstrip().split("\n")] == [
        line.rstrip() for line in wanted.rstrip().split("\n")
    ]


def _script(role: ModuleType, end: socket.socket) -> list[str]:
    return ["python", "-c", _source(role), str(end.fileno())]


@cache
def _source(role: ModuleType) -> str:
    """Join three files to one script, which begins with the only `from __future__` that it may have."""
    values, *others = (
        Path(str(module.__file__)).read_text(encoding="utf-8") for module in (solution_values, solution_channel, role)
    )
    return values + "".join(text.replace("from __future__ import annotations\n", "") for text in others)


plugin = Code
