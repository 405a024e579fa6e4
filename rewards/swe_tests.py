"""Repairs of repositories, judged by the tests that must begin to pass, and by those that must go on passing."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from llmrl.errors import DataError, RewardError
from llmrl.scoring.manager import GradingPool, GroupScorer, VerifierReward
from llmrl.swe.answers import AnswerForm, changes_of
from llmrl.swe.clones import files_of
from llmrl.swe.instance import Instance
from llmrl.swe.judging import Credit, judged
from llmrl.swe.proof import doubt
from llmrl.swe.testing import TestBed, TestRun
from llmrl.swe.tree import ChangeError
from llmrl.types import Problem, Score

ROOM_S = 5.0  # of the grader's own, before the pool's limit
REMEMBERED = 256
"""Results that a grading process keeps: the samples of a group often make the same change."""
_RESULTS: OrderedDict[str, TestRun] = OrderedDict()
_DOUBTS: dict[str, str] = {}
"""Of each instance that an answer did not resolve: why none can, "" where its reference does."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SweTests(TestBed):
    """Tests of a project, run on the answer's repair in the sandbox, and judged by the rules of SWE-bench.

    `credit: all` pays 1 where the repair resolves the instance: every test of FAIL_TO_PASS passes and every one of
    PASS_TO_PASS passes or is skipped. `share` pays the share of FAIL_TO_PASS that passes, and 0 where one of
    PASS_TO_PASS does not. An answer without a repair that applies gets `malformed`. The problem's `info` has the
    columns of SWE-bench (`repo`, `base_commit`, `test_patch`, `FAIL_TO_PASS`, `PASS_TO_PASS`), or `files` and
    `test_files`, from paths to text, in place of a repository. What the repair changes in files of tests, and in those
    that configure them, is put back first. The verdict is `correct` for a resolved instance.

    Before the first answer to an instance is called wrong, its reference (`patch`, or `oracle_new`) must resolve it
    here: where it does not, as in an environment that lacks what the project imports, its answers are errors.
    Source: the grading of SWE-bench (Jimenez et al. 2024, arXiv 2310.06770).

    Raises:
        DataError: the problem lacks a column, a clone, or its commit; its reference does not resolve it here.
        SandboxError: tests cannot be run here at level `min_level` or above.
    """

    credit: Credit = "all"
    form: AnswerForm = "any"  # of answers; strict: SWE-RL's to the letter; diff: a unified diff
    malformed: float = 0.0  # value of an answer without a repair that applies; SWE-RL gives -1

    @property
    def item_timeout_s(self) -> float:
        """Seconds that a grader needs for an answer, and once for the reference."""
        return 2 * self.timeout_s + ROOM_S

    def as_group_reward(self, pool: GradingPool) -> GroupScorer:
        """Make the group reward; the sandbox is tried out and its level logged first, before anything is sampled.

        Raises:
            RewardError: the pool's time limit is shorter than that of the tests.
            SandboxError: see above.
        """
        if pool.timeout_s < self.item_timeout_s:
            raise RewardError(
                f"reward swe_tests: timeout_s {self.timeout_s:g}, once for an answer and once for the reference, and "
                f"{ROOM_S:g} s for the grader do not fit into rollout.reward_timeout_s {pool.timeout_s:g}; raise that, "
                "or lower timeout_s"
            )
        log.warning("reward swe_tests: tests run in %s", self.ready())
        return VerifierReward("swe_tests", verifier=self, pool=pool)

    def warm_up(self) -> None:
        """Try the sandbox out, outside the first item's time."""
        self.ready()

    def __call__(self, problem: Problem, text: str) -> Score:
        instance = Instance.of(problem)
        files = files_of(instance, self.repos)
        try:
            changes = changes_of(files, text, self.form)
        except ChangeError as error:
            return Score(self.malformed, "unparsable", {"applied": 0.0, f"failed_{error.kind}": 1.0}, reason=str(error))
        try:
            tested = self._tested(instance, changes)
        except ChangeError as error:  # through a link of the project's own, say
            return Score(self.malformed, "unparsable", {"applied": 0.0, f"failed_{error.kind}": 1.0}, reason=str(error))
        score = judged(instance, tested, self.credit)
        if score.verdict != "correct" and (reason := self._doubt(instance)):
            raise DataError(f"instance {instance.id} cannot be judged here: {reason}")
        return score

    def _doubt(self, instance: Instance) -> str:
        """Say why no answer to an instance can be judged here; looked into once."""
        key = self._key(instance)
        if key not in _DOUBTS:
            _DOUBTS[key] = doubt(replace(self, logs=None), instance)
        return _DOUBTS[key]

    def _key(self, *told: object) -> str:
        """Digest of what decides a run of tests."""
        text = repr((self.options(), self.container, self.container_python, self.logs, *told))
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=20).hexdigest()

    def _tested(self, instance: Instance, changes: Mapping[str, str | None]) -> TestRun:
        """The run of a change's tests, or that of the same change before."""
        key = self._key(instance, sorted(changes.items()))
        if key in _RESULTS:
            _RESULTS.move_to_end(key)
            return _RESULTS[key]
        tested = self.run(instance, changes)
        if not tested.fault:  # which may have been the machine's
            _RESULTS[key] = tested
        while len(_RESULTS) > REMEMBERED:
            _RESULTS.popitem(last=False)
        return tested


plugin = SweTests
