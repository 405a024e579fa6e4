"""The token columns of a sample and of a batch: each is declared here, once, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import get_annotations
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeVar, get_type_hints

from llmrl.errors import ColumnError

A = TypeVar("A")
Filler = Literal["rollout", "policy", "reference", "critic", "credit"]

_REMEDY: Mapping[Filler, str] = {
    "rollout": "the rollout fills it where the engine or the reward gives it",
    "policy": "the policy fills it where the algorithm's needs() name it",
    "reference": "the reference model fills it where the algorithm's needs() name it",
    "critic": "the critic fills it where the algorithm's needs() name it",
    "credit": "the algorithm's credit() fills it: sample.assign({name}=...)",
}
_BETWEEN = ("llmrl.columns", "llmrl.samples", "llmrl.batch", "llmrl.ops.")
"""Modules that read columns on behalf of somebody else, who is the one to name in an error."""


@dataclass(frozen=True, slots=True)
class Declared:
    """Declared of one token column."""

    filler: Filler
    about: str
    dtype: str = "float"  # "float" is float32, or float64 in a sample of that precision
    field: str = ""  # the field of `Forward` that fills it, for columns of a model
    on_device: bool = True  # False: only credit reads it; it is dropped behind credit, and a batch goes without
    like: str = ""  # the column that it equals where nobody fills it
    padding: int = 0  # the entry of padding in a batch
    last: bool = False  # only that of the last action is kept, as one number for the row


class Columns:
    """Named columns, read as attributes: one that nobody filled is an error that says who asked and what fills it."""

    __slots__ = ()
    columns: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """The column, or `default` where nobody filled it."""
        return self.columns.get(name, default)

    def with_columns(self, **columns: Any) -> Self:
        """A copy with these columns as they are given; None takes one away."""
        merged = {name: column for name, column in {**self.columns, **columns}.items() if column is not None}
        return replace(self, columns=merged)  # type: ignore[type-var]

    def _remedy(self, name: str) -> str:
        """The end of the sentence that says how the column comes about."""
        raise NotImplementedError

    if not TYPE_CHECKING:  # for a type checker only the annotated names are attributes

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name not in _declared(type(self)):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            if (column := self.get(name)) is None:
                raise ColumnError(f"{_asker()} reads the column {name}, which nobody filled; {self._remedy(name)}")
            return column


class TokenColumns(Columns, Generic[A]):
    """Columns with an entry per token; entry t is about token t itself, never the next one."""

    __slots__ = ()
    token_ids: Annotated[A, Declared("rollout", "tokens as fed to the engine, or as sampled by it", "int32")]
    turn_ids: Annotated[
        A, Declared("rollout", "number of the turn that chose the token; -1 where none did", "int16", padding=-1)
    ]
    sampled_logprobs: Annotated[A, Declared("rollout", "log-probability by the engine; 0 where none chose it")]
    support_counts: Annotated[A, Declared("rollout", "number of `support_ids` that belong to the token", "int32")]
    token_rewards: Annotated[
        A, Declared("rollout", "reward of the token, besides that of the episode", "float64", on_device=False)
    ]
    old_logprobs: Annotated[A, Declared("policy", "log-probability by the policy before the step", field="logprobs")]
    old_kept_logprobs: Annotated[
        A, Declared("policy", "the same, renormalised over the token's `support_ids`", field="kept_logprobs")
    ]
    old_entropy: Annotated[
        A, Declared("policy", "entropy of the policy before the step, in nats", field="entropy", on_device=False)
    ]
    old_peak_logprobs: Annotated[
        A,
        Declared(
            "policy",
            "log-probability of the likeliest token, by the policy before the step",
            field="peak_logprobs",
            on_device=False,
        ),
    ]
    old_other_logprobs: Annotated[
        A,
        Declared(
            "policy",
            "log-probability of the token `ref_peak_ids`, by the policy before the step",
            field="other_logprobs",
            on_device=False,
        ),
    ]
    ref_logprobs: Annotated[A, Declared("reference", "log-probability by the reference model", field="logprobs")]
    ref_peak_ids: Annotated[
        A, Declared("reference", "likeliest token by the reference model", "int32", field="peak_ids")
    ]
    values: Annotated[A, Declared("critic", "number of the state before the token", field="values", on_device=False)]
    next_values: Annotated[
        A, Declared("critic", "number of the state after the token", field="next_values", on_device=False)
    ]
    last_values: Annotated[
        A,
        Declared(
            "critic",
            "number of the state after the row's last action",
            field="next_values",
            on_device=False,
            like="next_values",
            last=True,
        ),
    ]
    action_values: Annotated[
        A, Declared("critic", "number of the token in that state", field="action_values", on_device=False)
    ]
    baselines: Annotated[
        A, Declared("critic", "advantage of the turn, expected before the token", field="baselines", on_device=False)
    ]
    rewards: Annotated[A, Declared("credit", "reward that the token earned, its episode's and its turn's included")]
    discounts: Annotated[
        A, Declared("credit", "how much the value of what follows counts in a token's own; 0 at the end of an episode")
    ]
    advantages: Annotated[A, Declared("credit", "how much better than expected the token was")]
    returns: Annotated[A, Declared("credit", "target of the critic")]
    old_values: Annotated[A, Declared("credit", "the critic's `values` again, for a loss that clips around them")]
    weights: Annotated[A, Declared("credit", "how much the token's term counts in the objective of the step")]
    value_weights: Annotated[A, Declared("credit", "the same for the critic's terms", like="weights")]
    q_weights: Annotated[A, Declared("credit", "how much the error of Q at the token counts, beside `value_weights`")]
    v_weights: Annotated[
        A, Declared("credit", "the same of V of the state in which the token's turn begins, beside `value_weights`")
    ]
    nll_weights: Annotated[A, Declared("credit", "how much the token's own likelihood counts in a loss that imitates")]

    def get(self, name: str, default: Any = None) -> Any:
        """The column, that which it is like where nobody filled it, or `default`."""
        if (column := self.columns.get(name)) is not None:
            return column
        return self.get(COLUMNS[name].like, default) if COLUMNS[name].like else default

    def _remedy(self, name: str) -> str:
        return _REMEDY[COLUMNS[name].filler].format(name=name)


COLUMNS: Mapping[str, Declared] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(TokenColumns, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
"""Every token column by name, in the order of the declaration."""

_DECLARED: dict[type, frozenset[str]] = {}


def filled_by(*fillers: Filler) -> dict[str, Declared]:
    """The columns that one of these fills."""
    return {name: column for name, column in COLUMNS.items() if column.filler in fillers}


def _declared(kind: type) -> frozenset[str]:
    """Names of the columns that a class annotates, in itself or in the classes above it."""
    if kind not in _DECLARED:
        annotated = {name for base in kind.__mro__ for name in get_annotations(base)}
        _DECLARED[kind] = frozenset(annotated - {"columns"})
    return _DECLARED[kind]


def _asker() -> str:
    """Name of the function that read the column: the nearest one that reads it for itself."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__')}: {frame.f_code.co_qualname}"
