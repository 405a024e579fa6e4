"""Samples: the facts and token columns of a training example, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmrl.columns import COLUMNS, TokenColumns
from llmrl.types import LIMITS, Origin, Ragged, Role, Semantics, Status

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample(TokenColumns[Array]):
    """A training sample. Its columns (`llmrl.columns.COLUMNS`) are read as attributes and never written in place.

    Three tokens, of which the policy chose the last two in its first turn:

        sample = Sample(group="g", episode=0, reward=1.0, columns={"token_ids": [5, 6, 7], "turn_ids": [-1, 0, 0]})
        sample.assign(advantages=0.5).advantages  # array([0. , 0.5, 0.5], dtype=float32)
        sample.advantages  # ColumnError: nobody filled it

    Raises:
        ValueError: a column that is not declared, or one that has not one entry per token.
    """

    group: str  # episodes of one group are compared with each other
    episode: int  # an episode may take several samples; it still counts once
    reward: float  # NaN where it could not be given
    turn_rewards: Sequence[float] = (0.0,)  # one per turn
    semantics: Semantics = "scaled"  # of sampled_logprobs
    version: int = 0  # of the weights that sampled its first token
    status: Status = "done"  # how its episode ended
    truncated: bool = False  # a token limit ended it
    correct: bool | None = None  # the unshaped verdict; None where no reward gave one
    parts: Mapping[str, float] = field(
        default_factory=dict
    )  # what its reward is made of, by name, without weights; NaN: not given
    origin: Origin = "fresh"  # a proposal has no reward: NaN
    agent: str = ""  # for which the policy spoke, in episodes of several agents; its group is of that agent alone
    role: Role | None = None  # as the data say; mismatched: an answer behind another problem, never learned from
    numbers: Mapping[str, float] = field(
        default_factory=dict
    )  # of the sample, by name: stored beside it, or set by credit
    images: Sequence[str] = ()  # pictures whose tokens are in it, in their order: paths, or data URIs
    support_ids: Array | None = None  # ids among which each token was sampled, token by token; see `support_counts`
    dtype: type[np.floating[Any]] = np.float32  # of its columns that are no integers; checks take float64
    columns: Mapping[str, Any]  # arrays; without axes where one number stands for every action token

    def __post_init__(self) -> None:
        if unknown := self.columns.keys() - COLUMNS.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: no such column; known: {', '.join(COLUMNS)}")
        length = len(self.columns["token_ids"])
        checked = {name: self._checked(name, column, length) for name, column in self.columns.items()}
        object.__setattr__(self, "columns", checked)
        object.__setattr__(self, "images", tuple(self.images))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sample):
            return NotImplemented
        mine, theirs = (_comparable(sample) for sample in (self, other))
        return mine == theirs

    @property
    def played_in(self) -> str:
        """The group of its episode: `group`, without the agent."""
        return self.group.removesuffix(agent_group("", self.agent))

    @property
    def action_mask(self) -> Array:
        """(T,) bool: True where the policy chose the token."""
        mask: Array = self.turn_ids >= 0
        return mask

    @property
    def actions(self) -> int:
        """Number of tokens that the policy chose."""
        return int(np.count_nonzero(self.action_mask))

    @property
    def cut_off(self) -> bool:
        """True if a limit ended its episode, of tokens, of turns or of the environment, and not the task."""
        return self.truncated or self.status in LIMITS

    def get(self, name: str, default: Any = None) -> Any:
        """The column with one entry per token, or `default` where nobody filled it."""
        column = TokenColumns.get(self, name)
        if column is None:
            return default
        return column if column.ndim else np.where(self.action_mask, column, column.dtype.type(0))

    def assign(self, **columns: float | ArrayLike) -> Sample:
        """A copy with token columns set. A number is given to every action token; other tokens get 0.0."""
        mask = self.action_mask
        kept = {name: self._of_actions(name, column, mask) for name, column in columns.items()}
        return replace(self, columns={**self.columns, **kept})

    def on_device(self) -> Sample:
        """The sample without the columns that only credit reads."""
        return replace(self, columns={name: self.columns[name] for name in self.columns if COLUMNS[name].on_device})

    def with_numbers(self, **numbers: float) -> Sample:
        """A copy with numbers of the sample set, which a loss reads by `Batch.number`."""
        return replace(self, numbers={**self.numbers, **numbers})

    def as_dict(self) -> dict[str, Any]:
        """Facts and columns as JSON has them."""
        facts = {
            entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("columns", "dtype")
        }
        facts["support_ids"] = None if self.support_ids is None else self.support_ids.tolist()
        return facts | {name: self.get(name).tolist() for name in self.columns}

    def _of_actions(self, name: str, column: float | ArrayLike, mask: Array) -> Array:
        """The column with 0 at what the policy did not choose; a number stays one, and costs no memory."""
        array = np.asarray(column)
        if not array.ndim:
            return array
        if array.shape != mask.shape:
            raise ValueError(f"{name}: {len(array)} entries for {len(mask)} tokens")
        return np.where(mask, array, array.dtype.type(0))

    def _checked(self, name: str, column: Any, length: int) -> Array:
        """The column as an array of its declared type that nobody can write to."""
        declared = COLUMNS[name].dtype
        array: Array = np.asarray(column, self.dtype if declared == "float" else declared)
        if array.shape not in ((length,), ()):
            raise ValueError(f"{name}: {len(array)} entries for {length} tokens")
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        return array


def support(sets: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """`support_ids` and `support_counts` of one set of ids per token; `Ragged` ids are not copied."""
    ragged = sets if isinstance(sets, Ragged) else Ragged.of(sets)
    return np.asarray(ragged.ids, np.int32), np.diff(np.asarray(ragged.ends), prepend=0)


def agent_group(group: str, agent: str) -> str:
    """Name of the group in which an agent's sides of episodes are compared with each other: `0/nim#first`."""
    return f"{group}#{agent}" if agent else group


def prompt_hash(sample: Sample) -> bytes:
    """Hash of the tokens before the first action, and of the sample's pictures."""
    prompt = sample.token_ids[: prompt_length(sample)].tobytes()
    return blake2b(prompt + repr(list(sample.images)).encode() if sample.images else prompt, digest_size=16).digest()


def prompt_length(sample: Sample) -> int:
    """Number of tokens before the first action."""
    return int(sample.action_mask.argmax())


def _comparable(sample: Sample) -> dict[str, Any]:
    """Facts and columns as values that `==` compares; a number that is NaN equals no other."""
    arrays = {name: (column.dtype, sample.get(name).tolist()) for name, column in sample.columns.items()}
    facts = {entry.name: getattr(sample, entry.name) for entry in fields(sample) if entry.name != "columns"}
    ids = None if sample.support_ids is None else sample.support_ids.tolist()
    return {**facts, "support_ids": ids, "turn_rewards": list(sample.turn_rewards), "columns": arrays}
