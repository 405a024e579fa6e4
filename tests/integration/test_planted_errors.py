"""Errors planted in twenty-four losses and credits: which check catches which. docs/verify.md shows the table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from llmrl.algorithms.bcoder import BCoder
from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.ilql import ILQL
from llmrl.algorithms.ppo import PPO
from llmrl.batch import Batch
from llmrl.checks.verify import differences, invariances, toy
from llmrl.checks.verify.forms import forms
from llmrl.checks.verify.oracles import compare as oracle
from llmrl.checks.verify.run import Check, Form
from llmrl.ops.kl import k1
from llmrl.ops.tracks import EpisodeSequence
from llmrl.protocols import Forward, Loss
from llmrl.samples import Sample
from tests.integration import archer_errors, webrl_errors

PAGE = Path(__file__).parents[2] / "docs" / "verify.md"
SHIPPED = {form.name: form for form in forms()}
PARTS: dict[str, Callable[[Form], list[Check]]] = {
    "oracle": oracle.oracle,
    "differences": differences.differences,
    "invariances": invariances.invariances,
    "learning": lambda form: (form.learns or toy.learning)(form, seeds=(0,)),  # type: ignore[call-arg]
}


@dataclass(frozen=True, kw_only=True)
class WrongSign(GRPO):
    def loss(self, new: Forward, batch: Batch) -> Loss:
        right = super().loss(new, batch)
        return replace(right, terms=-right.terms)


@dataclass(frozen=True, kw_only=True)
class WrongDenominator(GRPO):
    def loss(self, new: Forward, batch: Batch) -> Loss:
        right = super().loss(new, batch)
        return replace(right, terms=right.terms / batch.weights.sum())


@dataclass(frozen=True, kw_only=True)
class OneSide(GRPO):
    def _policy(self, new: Any, old: Any, batch: Batch) -> Any:
        return super(OneSide, replace(self, epsilon=1.0, epsilon_high=self.high))._policy(new, old, batch)


@dataclass(frozen=True, kw_only=True)
class DivergenceInTheLoss(GRPO):
    def credit(self, samples: Sequence[Any]) -> list[Any]:
        return GRPO.credit(replace(self, beta=0.0), samples)

    def loss(self, new: Forward, batch: Batch) -> Loss:
        right = super().loss(new, batch)
        return replace(right, terms=right.terms + self.beta * k1(new.logprobs, batch.ref_logprobs))


@dataclass(frozen=True, kw_only=True)
class MaskIgnored(GRPO):
    def loss(self, new: Forward, batch: Batch) -> Loss:
        whole = batch.with_columns(turn_ids=(batch.sample_ids >= 0).long() - 1)
        return super().loss(new, whole)


@dataclass(frozen=True, kw_only=True)
class TargetLearns(ILQL):
    def critic_loss(self, new: Forward, batch: Batch) -> Loss:
        right, aim = super().critic_loss(new, batch), self._aim(new, batch)
        own = 0.5 * (new.heads["q1"].detach() - aim).square() + 0.5 * (new.heads["q2"].detach() - aim).square()
        return replace(right, terms=right.terms + own - own.detach())


@dataclass(frozen=True, kw_only=True)
class BeforeTheReply(ILQL):
    def _aim(self, new: Forward, batch: Batch) -> Tensor:
        return batch.rewards + batch.discounts * new.next_heads["v"]


@dataclass(frozen=True, kw_only=True)
class ChiSquareWithoutGate(ILQL):
    def _implicit(self, gap: Tensor, batch: Batch) -> Tensor:
        return self.lam * (gap + gap.square() / 4).clamp(min=0) - (1 - self.lam) * gap


@dataclass(frozen=True, kw_only=True)
class OptimalityBackup(BCoder):
    def credit(self, samples: Sequence[Any]) -> list[Any]:
        return super().credit([row.assign(old_other_logprobs=row.old_peak_logprobs) for row in samples])


@dataclass(frozen=True, kw_only=True)
class PeakWithoutGradient(BCoder):
    def loss(self, new: Forward, batch: Batch) -> Loss:
        return super().loss(new.with_columns(peak_logprobs=new.peak_logprobs.detach()), batch)


@dataclass(frozen=True, kw_only=True)
class FirstToken(PPO):
    def _track(self, episode: list[Sample]) -> EpisodeSequence:
        track = super()._track(episode)
        moved = track.rewards["reward"].copy()
        for turn in range(int(track.turn_ids.max()) + 1):
            places = (track.turn_ids == turn).nonzero()[0]
            moved[places[[0, -1]]] = [track.rewards["reward"][places].sum(), 0.0] if len(places) > 1 else moved[places]
        return replace(track, rewards={**track.rewards, "reward": moved})


@dataclass(frozen=True, kw_only=True)
class DoneIgnored(PPO):
    def _track(self, episode: list[Sample]) -> EpisodeSequence:
        track = super()._track(episode)
        after = np.concatenate([row.last_values for row in track.rows])
        return replace(track, last=float(after[track.mask][-1]))


@dataclass(frozen=True, kw_only=True)
class EnvironmentUnmasked(GRPO):
    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        return super().credit([row.with_columns(turn_ids=np.maximum.accumulate(row.turn_ids)) for row in samples])


ERRORS: list[tuple[str, type[Any], str, str]] = [
    ("the sign of the loss is wrong", WrongSign, "cispo", "oracle, learning"),
    ("means of micro-batches in place of a mean over the step", WrongDenominator, "dr_grpo", "oracle, invariances"),
    ("the ratio may fall as far as it likes", OneSide, "dapo", "oracle"),
    (
        "the divergence that belongs into the reward is in the loss",
        DivergenceInTheLoss,
        "grpo_k1",
        "oracle, invariances",
    ),
    ("a sequence's ratio is over all tokens, not those of the policy", MaskIgnored, "gspo", "oracle, invariances"),
    ("the target of Q learns with it", TargetLearns, "ilql", "oracle"),
    ("V before the environment replied, in place of that behind it", BeforeTheReply, "ilql_awac", "oracle"),
    ("the surrogate of chi-square is cut at 0 and rises again below -4", ChiSquareWithoutGate, "fdvl_chi2", "oracle"),
    ("the best Q is backed up, not that of the reference's token", OptimalityBackup, "bcoder", "oracle, learning"),
    ("the likeliest token's logit is a constant", PeakWithoutGradient, "bcoder", "oracle"),
    ("the reward of a turn stands on its first token", FirstToken, "ppo_turns", "oracle, learning"),
    ("what is behind a finished episode is worth what the critic says", DoneIgnored, "ppo_turns", "oracle, learning"),
    ("tokens of the environment are learned from", EnvironmentUnmasked, "grpo_turns", "oracle, invariances"),
    *archer_errors.ERRORS,
    *webrl_errors.ERRORS,
]


PLANTED = pytest.mark.parametrize(
    ("error", "cls", "name", "caught"), ERRORS, ids=[cls.__name__ for _, cls, _, _ in ERRORS]
)


def red(cls: type[Any], name: str, parts: Sequence[str]) -> dict[str, list[str]]:
    """Checks of these parts that fail with the error in place, by part."""
    right = SHIPPED[name]
    options = {f.name: getattr(right.algorithm, f.name) for f in fields(cls)}
    wrong = replace(right, algorithm=cls(**options))
    failed = {part: [check.name for check in PARTS[part](wrong) if not check.ok] for part in parts}
    return {part: names for part, names in failed.items() if names}


@PLANTED
def test_an_error_turns_verify_red(error: str, cls: type[Any], name: str, caught: str) -> None:
    found = red(cls, name, caught.split(", "))
    print(f"\n{error}: {found}")
    assert ", ".join(found) == caught


@pytest.mark.slow
@PLANTED
def test_no_other_part_notices_it(error: str, cls: type[Any], name: str, caught: str) -> None:
    others = [part for part in PARTS if part not in caught.split(", ")]
    assert red(cls, name, others) == {}, error


def test_the_page_has_this_table() -> None:
    section = PAGE.read_text(encoding="utf-8").split("\n## Planted errors\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (\w+) \| ([\w, ]+) \|$", section, re.MULTILINE)
    assert rows[1:] == [(error, name, caught) for error, _, name, caught in ERRORS]
