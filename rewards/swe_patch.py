"""Patches of SWE-bench as they are: files found and edited, whether they apply, similarity; tests where asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.plugins import build
from llmrl.recipe.ranges import Count
from llmrl.scoring.manager import GradingPool, GroupScorer, VerifierReward, as_group_reward
from llmrl.scoring.trl_functions import Timed
from llmrl.swe.clones import files_of
from llmrl.swe.instance import Instance
from llmrl.swe.patches import apply_patch
from llmrl.swe.similarity import MOST, alike, mean, patch_changes
from llmrl.swe.tree import ChangeError
from llmrl.types import Problem, Score, Trajectory

ROOM_S = 20.0  # for reading a clone, and comparing


@dataclass(frozen=True, kw_only=True)
class SwePatch:
    """Measures of an answer that is a unified diff. Its value is None, for nothing here tells right from wrong.

    Parts: `predicted`, 1 for a patch that can be read; `gold_files`, 1 if it changes every file that the reference
    changes; `applied`, 1 if it applies to the commit; `similarity` of the changed lines to the reference's, 0 to 1, by
    SWE-RL's rule; and the numbers of the episode, such as `localised`. With `tests`, options of the reward `swe_tests`,
    value and verdict are those of the tests.
    """

    repos: str = ""  # a folder of clones; without one for a problem's repository nothing is applied
    max_characters: Count = MOST  # of one file's diff; the similarity of a longer one is 0
    tests: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def item_timeout_s(self) -> float:
        """Seconds that a grader needs for an answer."""
        return ROOM_S + (self._reward_by_tests().item_timeout_s if self.tests is not None else 0.0)

    def as_group_reward(self, pool: GradingPool) -> GroupScorer:
        """Make the group reward."""
        measures = VerifierReward("swe_patch", verifier=self, pool=pool)
        if self.tests is None:
            return PatchReward("swe_patch", measures, None)
        return PatchReward("swe_patch", measures, as_group_reward(self._reward_by_tests(), pool))

    def _reward_by_tests(self) -> Any:
        spec = {"form": "diff", "repos": self.repos, **(self.tests or {}), "name": "swe_tests"}
        return build("reward", spec, "swe_patch.tests")

    def __call__(self, problem: Problem, text: str) -> Score:
        instance = Instance.of(problem)
        found, gold = patch_changes(text), patch_changes(instance.patch)
        parts = {"predicted": float(bool(found)), "gold_files": float(bool(gold) and set(gold) <= set(found))}
        if gold:
            parts["similarity"] = mean(alike(found, gold, self.max_characters))
        if instance.base_commit and not self.repos and not instance.repo.startswith("/"):
            return Score(None, parts=parts, reason="not applied: no folder of clones")
        try:
            applied = bool(text.strip()) and bool(apply_patch(files_of(instance, self.repos), text))
            return Score(None, parts=parts | {"applied": float(applied)})
        except ChangeError as error:
            return Score(None, parts=parts | {"applied": 0.0}, reason=str(error))


@dataclass
class PatchReward(Timed):
    """Measures of each episode's patch, with the verdict of tests where there are any."""

    measures: GroupScorer
    tests: GroupScorer | None

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        measured = await self.measures.score(group)
        tested = await self.tests.score(group) if self.tests is not None else measured
        return [
            replace(score, parts={**trajectory.metrics, **own.parts, **score.parts})
            for trajectory, own, score in zip(group, measured, tested, strict=True)
        ]


plugin = SwePatch
