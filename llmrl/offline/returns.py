"""Answers behind the return that they had: a system message names its bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from llmrl.datafiles.order import Unit
from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.example import ASSISTANT, Example
from llmrl.offline.formats import ROLLOUTS, reader
from llmrl.ops.returns import bucket_of, edges_of
from llmrl.run_folder.records import EpisodeRecord
from llmrl.samples import Sample
from llmrl.types import Message

BUCKET = "{bucket}"
"""Stands for the bucket's number in the text of the condition."""


@dataclass(frozen=True)
class ConditionedReader:
    """Samples of a unit of rows, most of them behind the bucket of their return."""

    encoder: AnswerEncoder
    format: str
    edges: Sequence[float]
    control: str
    drop: float
    seed: int

    def __call__(self, unit: Unit, group: str) -> list[Sample]:
        examples = [example for row in unit for example in examples_of(row, self.format)]
        if not examples:
            raise LeftOutError("not scored, or cut off")
        return self.encoder.samples([self._conditioned(each, f"{group}/{i}") for i, each in enumerate(examples)], group)

    def _conditioned(self, example: Example, name: str) -> Example:
        """The example with its bucket before it, or without, by chance; its number `bucket` is -1 then."""
        if Random(f"{self.seed}/returns/{name}").random() < self.drop:
            return replace(example, numbers={**example.numbers, "bucket": -1.0})
        bucket = bucket_of(return_of(example), self.edges)
        numbers = {**example.numbers, "bucket": float(bucket)}
        messages = behind(example.messages, self.control.replace(BUCKET, str(bucket)))
        return replace(
            example, messages=messages, start=example.start + len(messages) - len(example.messages), numbers=numbers
        )


@dataclass
class ReturnCounts:
    """Returns of all rows: the edges of their buckets, and how many rows each has."""

    returns: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Row], format: str) -> ReturnCounts:
        """Read the returns of rows; those that are broken or of no use are passed over here."""
        counts = cls()
        for row in rows:
            with suppress(DataError, LeftOutError):
                counts.returns += [return_of(example) for example in examples_of(row, format)]
        return counts

    def buckets(self, quantiles: Sequence[float], least: int, where: str) -> tuple[list[float], dict[str, int]]:
        """Edges, and rows of each bucket that has any.

        Raises:
            DataError: no return, or a bucket has fewer than `least`.
        """
        if not self.returns:
            raise DataError(f"{where}: no answer has a reward; expected some, to make buckets of")
        if len(set(self.returns)) == 1:
            raise DataError(
                f"{where}: every answer has the return {self.returns[0]:g}, so it tells nothing; expected answers with "
                "different rewards (one that was stored without any has 1)"
            )
        edges = edges_of(self.returns, quantiles)
        counts = Counter(bucket_of(value, edges) for value in self.returns)
        scarce = {bucket: count for bucket, count in sorted(counts.items()) if count < least}
        if scarce:
            bucket, count = next(iter(scarce.items()))
            raise DataError(
                f"{where}: bucket {bucket} of the returns has {count} answers, source.min_rows is {least}; expected "
                "more rows, fewer source.quantiles, or a lower source.min_rows"
            )
        return edges, {str(bucket): count for bucket, count in sorted(counts.items())}


def return_of(example: Example) -> float:
    """The reward of an example, and of its turns, which is 0 where none is stored.

    Raises:
        LeftOutError: it was not scored.
    """
    if example.score.value is None:
        raise LeftOutError("not scored")
    return example.score.value + sum(float(message.get("reward", 0.0)) for message in example.messages[example.start :])


def examples_of(row: Row, format: str) -> Iterator[Example]:
    """The answers of a row of any format; of an episode, only where it was scored and not cut off."""
    if format != ROLLOUTS:
        yield from reader(format)(row)
        return
    try:
        played = EpisodeRecord.from_json(row.values).trajectory
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{row.where}: no record of an episode: {type(error).__name__}: {error}") from None
    if played.score is None or played.score.value is None or played.cut_off or not played.turns:
        return
    if any(turn.whole for turn in played.turns[:-1]):
        raise LeftOutError("its history was rewritten between turns")
    asked = played.problem.messages if played.shown is None else played.shown
    said: list[Message] = list(asked)
    for turn in played.turns:
        said += [{"role": ASSISTANT, "content": turn.text, "reward": turn.reward}, *turn.reply]
    while said[-1]["role"] != ASSISTANT:
        said.pop()
    yield Example(messages=said, start=len(asked), tools=played.tools, score=played.score)


def behind(messages: Sequence[Message], control: str) -> list[Message]:
    """The messages behind a system message with the control; one that is there gets it as a line of its own."""
    first: Any = messages[0]
    if first["role"] == "system":
        return [{**first, "content": f"{first['content']}\n{control}"}, *messages[1:]]
    return [{"role": "system", "content": control}, *messages]
