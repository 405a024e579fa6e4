"""Forms: an algorithm with its options, and the properties that are verified of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llmrl.protocols import Algorithm
from llmrl.samples import Sample

Part = Literal["cases", "oracle", "differences", "invariances", "learning"]
PARTS: tuple[Part, ...] = ("cases", "oracle", "differences", "invariances", "learning")

Numbers = Mapping[str, Sequence[float]]
"""Outputs of a network for a row, by column: `logprobs`, `entropy`, `values`, `next_values`; an entry per token."""


@dataclass(frozen=True, slots=True)
class OracleAnswer:
    """An oracle's answer for a model: its objective, and the gradient by the columns that a network gives."""

    objective: float
    gradients: Mapping[str, Sequence[Sequence[float]]]  # [column][row][token]; a column that is left out has none


Oracle = Callable[[Any, Sequence[Sample], Sequence[Numbers]], Mapping[str, OracleAnswer]]
"""(algorithm, rows as a source gives them, outputs of the trained networks for each) to an answer per model.

Written from the paper's equation in plain loops, and from nothing that the algorithm itself uses.
"""


@dataclass(frozen=True, kw_only=True)
class Form:
    """An algorithm under its options. `llmrl verify package.module:Attribute` takes one of these, or the algorithm."""

    name: str
    algorithm: Algorithm
    oracle: Oracle | None = None
    baseline: bool | None = None  # equal rewards of a group give no gradient; None: if raising all of them changes none
    dense: bool = False  # the random steps have rewards of single tokens, too
    turns: bool = False  # and rewards of turns
    origins: bool = False  # and some are of earlier steps, others turns that no environment has answered
    pairs: bool = False  # the random steps are pairs: groups of a chosen and a rejected answer, with a number `margin`
    mismatched: bool = False  # every fourth row is an answer behind another problem
    verdicts: bool = True  # rewards say right or wrong
    splits: bool = False  # an episode in several samples teaches what it teaches in one
    truth: bool = False  # every third answer of the random steps is marked as ground truth
    top_p: float | None = None  # of the sampler; rows then have `support_ids`
    only_ratios: bool = True  # log-probabilities count only against those of another policy
    only_credit: bool = True  # where all advantages are 0 and the policy is the reference, nothing is learned
    rewards: tuple[float, float] = (0.0, 1.0)  # of a wrong and a right answer in the toy
    rates: Mapping[str, float] = field(default_factory=dict)
    """Step sizes of plain gradient descent on the toy's tables, by model; Adam for a model that is not named."""
    learns: Callable[[Form], list[Check]] | None = None  # another problem with a known optimum, in place of the toy
    parts: Sequence[Part] = PARTS
    """What is looked at; forms of single options have no problem of their own to learn."""
    target: float = 0.95  # success in the toy's last ten updates, of every seed


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check of a form."""

    form: str
    part: Part
    name: str
    ok: bool
    expected: str
    found: str
