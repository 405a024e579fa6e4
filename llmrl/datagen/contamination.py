"""Find problems to train on that also stand in a test: shared runs of words, and equal texts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from llmrl.plugins import build, names
from llmrl.types import Problem

WORD = re.compile(r"\w+")
COMMON = 10  # a run of words in more test problems than this is phrasing, not content


@dataclass(frozen=True, slots=True)
class Overlap:
    """A problem to train on and a problem of the test that share words."""

    train: str  # their ids
    test: str
    shared: int  # runs of n words that both hold
    share: float  # of the test problem's runs; 1.0 where the texts are equal but for case and blanks


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationReport:
    """Result of a check of two datasets."""

    n: int  # words in a run
    train: int  # problems read, each of which parsed
    test: int
    repeated: Sequence[tuple[str, str]]  # ids within train whose texts are equal
    unanswered: int  # problems of train without reference answer
    overlaps: Sequence[Overlap]  # most alike first

    @property
    def equal(self) -> int:
        """Test problems whose whole text stands in train."""
        return len({overlap.test for overlap in self.overlaps if overlap.share == 1.0})

    @property
    def touched(self) -> int:
        """Test problems that share at least one run of words with train."""
        return len({overlap.test for overlap in self.overlaps})

    def rows(self) -> list[tuple[str, str]]:
        """Lines to print: a name and a value each."""
        half = len({overlap.test for overlap in self.overlaps if overlap.share >= 0.5})
        return [
            ("train problems", f"{self.train:,}"),
            ("test problems", f"{self.test:,}"),
            ("repeated within train", f"{len(self.repeated):,}"),
            ("train problems without answer", f"{self.unanswered:,}"),
            ("test problems that stand in train", f"{self.equal:,}"),
            (f"test problems with half of their {self.n}-word runs in train", f"{half:,}"),
            (f"test problems with any {self.n}-word run in train", f"{self.touched:,}"),
        ]


def check(train: Mapping[str, Any] | str, test: Mapping[str, Any] | str, n: int = 13) -> ContaminationReport:
    """Read every problem of both datasets and compare their questions, without the instructions that all share.

    Args:
        train, test: a dataset and its options, or text: `gsm8k`, `gsm8k/test` (with a split), or a file.
        n: words in a run: 13 is usual for long texts (Brown et al. 2020, arXiv 2005.14165, appendix C), 8 finds more.
    Raises:
        DataError: a row of either is broken.
        RecipeError: no such dataset.
    """
    learnt, tested = list(_plain(train).problems()), list(_plain(test).problems())
    first: dict[str, str] = {}
    repeated = []
    for problem in learnt:
        before = first.setdefault(_signs(problem), problem.id)
        if before != problem.id:
            repeated.append((before, problem.id))
    return ContaminationReport(
        n=n,
        train=len(learnt),
        test=len(tested),
        repeated=repeated,
        unanswered=sum(not problem.answer for problem in learnt),
        overlaps=contaminated(learnt, tested, n),
    )


def contaminated(train: Iterable[Problem], test: Iterable[Problem], n: int = 13) -> list[Overlap]:
    """Pairs of problems that share a run of `n` words, or whose texts are equal, most alike first.

    Runs are of words, without case and punctuation; equal texts are equal in every sign but blanks and case, so `3-4`
    is not `3+4`. A run that stands in more than 10 test problems is phrasing and does not count; a problem shorter than
    `n` words is found only if all of it is equal.
    """
    if n < 1:
        raise ValueError(f"n {n}: expected at least 1 word")
    tested = list(test)
    runs = [set(_runs(_words(problem), n)) for problem in tested]
    frequency = Counter(run for own in runs for run in own)
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, own in enumerate(runs):
        runs[index] = {run for run in own if frequency[run] <= COMMON}
        for run in runs[index]:
            holders[run].append(index)
    whole: dict[str, list[int]] = defaultdict(list)
    for index, problem in enumerate(tested):
        whole[_signs(problem)].append(index)
    found = []
    for problem in train:
        shared = Counter(index for run in set(_runs(_words(problem), n)) for index in holders.get(run, ()))
        equal = set(whole.get(_signs(problem), ()))
        for index in equal | set(shared):
            share = 1.0 if index in equal else min(shared[index] / len(runs[index]), 0.999)
            found.append(Overlap(problem.id, tested[index].id, shared[index], share))
    return sorted(found, key=lambda overlap: (-overlap.share, -overlap.shared, overlap.train, overlap.test))


def named(spec: Mapping[str, Any] | str) -> Any:
    """The dataset that a spec or a text names: `gsm8k`, `gsm8k/test` (with a split), or a file."""
    if isinstance(spec, str):
        name, slash, split = spec.partition("/")
        if slash and name in names("data"):
            spec = {"name": name, "split": split}
        elif Path(spec).suffix or Path(spec).exists():
            spec = {"name": "jsonl", "path": spec}
    return build("data", spec, f"data {spec!r}" if isinstance(spec, str) else "data")


def _plain(spec: Mapping[str, Any] | str) -> Any:
    """The dataset, without its instruction."""
    dataset = named(spec)
    return replace(dataset, instruction="") if "instruction" in {field.name for field in fields(dataset)} else dataset


def _text(problem: Problem) -> str:
    return " ".join(str(message.get("content") or "") for message in problem.messages).lower()


def _signs(problem: Problem) -> str:
    return "".join(_text(problem).split())


def _words(problem: Problem) -> list[str]:
    return WORD.findall(_text(problem))


def _runs(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
