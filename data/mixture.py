"""Mix several datasets, with weights by source and a filter for noisy references."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmrl.datafiles.canonical import canonical
from llmrl.datafiles.pass_rates import pass_rates
from llmrl.errors import DataError
from llmrl.plugins import build, construct
from llmrl.types import Problem

log = logging.getLogger(__name__)
OWN_SOURCE = "row_source"
"""Name that a column `source` of the data gets, whose own name is the mixture's."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Source of a mixture: a dataset, its share, and the filters of its problems."""

    data: Mapping[str, Any]  # a dataset by name, with its options
    weight: float = 1.0  # of its problems among all
    short_answers: bool = False  # only problems whose reference is a short number, formula or choice
    records: str | None = None  # file of `llmrl eval` with a policy's answers to these problems
    min_pass_rate: float = 0.0  # with records: only problems that were solved more often; 0: at least once

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight {self.weight}: expected above 0")
        if not 0 <= self.min_pass_rate < 1:
            raise ValueError(f"min_pass_rate {self.min_pass_rate}: expected at least 0 and below 1")
        build("data", self.data, "data")

    def problems(self, source: str) -> Iterator[Problem]:
        """Yield the problems that pass the filters, named after the source.

        Raises:
            DataError: `records` lack a problem, or cannot be read.
        """
        rates, renamed = pass_rates(Path(self.records)) if self.records is not None else None, False
        for problem in build("data", self.data, f"data.sources.{source}.data").problems():
            if self.short_answers and not canonical(problem.answer):
                continue
            if rates is not None and problem.id not in rates:
                raise DataError(
                    f"{self.records}: no judged completion of problem {problem.id!r} of source {source}; expected the "
                    "records of an evaluation of the same dataset: finish it with `llmrl eval`"
                )
            if rates is None or rates[problem.id] > self.min_pass_rate:
                info = dict(problem.info)
                if "source" in info:
                    info[OWN_SOURCE] = info.pop("source")
                    if not renamed:
                        log.warning("data.sources.%s: its column 'source' is called %r here", source, OWN_SOURCE)
                    renamed = True
                yield replace(problem, id=f"{source}/{problem.id}", info={**info, "source": source})


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Problems of `sources` in turn, so that after any number of them each source has its share within one problem.

    Nothing is drawn at random and nothing is repeated: the mixture ends with the first source that ends, or, with
    `keep_rest`, continues with the others. Ids begin with the source, and `info["source"]` names it: the reward
    `by_source` reads that. A column of that name in the data is `row_source`, with a warning. After arXiv 2502.03373,
    section 5, which mixes clean problems with noisy ones from the web.
    """

    sources: Mapping[str, Mapping[str, Any]] = field(hash=False)  # the options of a `Part` by name
    keep_rest: bool = False  # go on with the others when a source ends; then the shares are no longer the weights

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; expected at least one, such as {clean: {data: {name: math}}}")
        self.parts()

    def parts(self) -> dict[str, Part]:
        """The sources, with defaults filled in."""
        return {name: construct(Part, options, f"sources.{name}") for name, options in self.sources.items()}

    def problems(self) -> Iterator[Problem]:
        """Yield problems in an order that only the weights and the sources determine.

        Raises:
            DataError: a source keeps no problem at all, or a row of one is broken.
        """
        parts = self.parts()
        streams = {name: part.problems(name) for name, part in parts.items()}
        heads = {name: _first(stream, name) for name, stream in streams.items()}
        taken = dict.fromkeys(heads, 0)
        while heads:
            name = min(heads, key=lambda source: (taken[source] + 0.5) / parts[source].weight)
            yield heads[name]
            taken[name] += 1
            following = next(streams[name], None)
            if following is not None:
                heads[name] = following
            elif self.keep_rest:
                del heads[name]
            else:
                return


def _first(stream: Iterator[Problem], name: str) -> Problem:
    problem = next(stream, None)
    if problem is None:
        raise DataError(f"data.sources.{name}: no problem is kept; loosen its filters, or leave it out")
    return problem


plugin = Mixture
