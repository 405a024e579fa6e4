"""Stored answers, each behind the return that it had: a policy that can be asked for the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.datafiles.rows import Row
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.returns import BUCKET, ConditionedReader, ReturnCounts
from llmrl.offline.source import Read
from llmrl.rollout.context import SourceContext
from llmrl.sources.offline import Offline


@dataclass(frozen=True, kw_only=True)
class Returns(Offline):
    """`offline` for return-conditioned fine-tuning: a system message names the bucket of each answer's return.

    `model.system_prompt` is what evaluations and rollouts ask for, the top bucket; it is no part of these rows.
    """

    quantiles: Sequence[float] = field(default=(0.25, 0.5, 0.75), hash=False)  # of all returns: edges of the buckets
    control: str = f"<|ret_{BUCKET}|>"  # text of the system message
    drop: float = 0.1  # share of the answers without it, so that the policy can be asked for nothing, too
    min_rows: int = 100  # answers that each bucket must have

    def __post_init__(self) -> None:
        super().__post_init__()
        inside = all(0 < quantile < 1 for quantile in self.quantiles)
        if not self.quantiles or not inside or list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError(f"quantiles {list(self.quantiles)}: expected numbers between 0 and 1 that rise")
        if BUCKET not in self.control:
            raise ValueError(f"control {self.control!r}: expected a text with {BUCKET}")
        if not 0 <= self.drop < 1 or self.min_rows < 1:
            raise ValueError("drop must be at least 0 and below 1, min_rows at least 1")
        if self.columns is not None:
            raise ValueError("columns: what is stored is of answers without their return; expected null")

    def reading(
        self, format: str, rows: Callable[[], Iterator[Row]], context: SourceContext
    ) -> tuple[Read, Mapping[str, Any]]:
        """Read all returns once, for the edges of their buckets.

        Raises:
            DataError: no answer has a reward, or a bucket has too few answers.
        """
        where = str(self.path or self.dataset_name)
        edges, counts = ReturnCounts.of(rows(), format).buckets(self.quantiles, self.min_rows, where)
        encoder = AnswerEncoder(replace(context.chat, system_prompt=None), context.options)
        read = ConditionedReader(encoder, format, edges, self.control, self.drop, context.seed)
        return read, {"return_edges": edges, "return_buckets": counts}


plugin = Returns
