"""Make preference rows for a reward model that reads principles, judged by a model: `llmrl data salmon`."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from llmrl.aio import wait
from llmrl.answers.language import language
from llmrl.datagen.answered import Answered, Refused, read
from llmrl.datagen.judge import PairJudge, both_orders
from llmrl.datagen.ledger import Ledger, beside, put, require_own
from llmrl.errors import DataError
from llmrl.ops.salmon import Gaps, combined, consistent, dominant, how_many, variances
from llmrl.reward_models.principles import Principle

AT_ONCE = 8  # pairs that are being judged
MOST = 8  # principles that one row shows
DISCLAIMER = re.compile(r"\bas an? (?:ai|artificial intelligence|language model|large language model)\b", re.IGNORECASE)
Rule = Literal["disclaimer", "language"]


@dataclass(frozen=True, kw_only=True)
class Making:
    """Options by which rows are made of judgements; the defaults are those of the authors' code."""

    passes: int = 4  # rows that one pair may give, each with principles of its own
    negate: float = 0.5  # probability that a principle is turned round
    flip: float = 0.1  # probability that a label is turned round, against overconfidence
    flip_ruled: float = 0.25  # the same where a rule decided
    seed: int = 0

    def __post_init__(self) -> None:
        chances = (self.negate, self.flip, self.flip_ruled)
        if self.passes < 1 or not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"passes {self.passes}, probabilities {chances}: expected at least 1, and 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A pair and its judgements, by principle."""

    answered: Answered
    gaps: Mapping[str, Gaps]


@dataclass(frozen=True, slots=True, kw_only=True)
class SalmonReport:
    """Counts of the pairs and of the rows made of them."""

    pairs: int
    rows: int
    inconsistent: Mapping[str, float]  # by principle: the share of pairs of which the two orders disagree
    decided: Mapping[str, int]  # rows by the principle that decided
    rules: Mapping[str, int]  # rows by the rule that decided instead
    flipped: int
    dropped: Mapping[str, int]  # passes without a row, by reason
    refused: Refused

    def lines(self) -> Iterator[str]:
        """Lines to print."""
        yield f"{self.pairs:,} pairs judged, {self.rows:,} rows, {self.flipped:,} of them flipped"
        for name, share in self.inconsistent.items():
            rows = self.decided.get(name, 0)
            yield f"{name}: orders disagree in {share:.1%}; decides {rows:,} rows ({rows / max(self.rows, 1):.1%})"
        yield from (f"rule {name}: {count:,} rows" for name, count in self.rules.items())
        yield from (f"no row: {count:,} times {reason}" for reason, count in self.dropped.items())
        yield from (f"left out: {count:,} times {reason}" for reason, count in self.refused.counts.items())
        yield from self.refused.places


def write(
    answers: Path,
    out: Path,
    principles: Sequence[Principle],
    judge: PairJudge,
    *,
    judged_by: str,
    making: Making | None = None,
    min_chars: int = 16,
) -> SalmonReport:
    """Have the first two answers of every prompt compared by every principle, and write preference rows.

    Args:
        answers: prompts with at least two answers each (see `answered.read`).
        out: a .jsonl file of rows; replaced as a whole. Beside it stays `.judged.jsonl`, the judge's gaps for each
            pair, from which a second call goes on.
        principles: at least one.
        judge: compares the two answers.
        judged_by: its name, written down: gaps of two judges cannot be mixed.
        making: how rows are made; it may change between calls.
        min_chars: shorter answers are left out.
    Raises:
        DataError: the files cannot be read, `out` is another file of yours, or no row comes of them.
        LlmrlError: something cannot be written, or the judge fails as a whole; what was judged stays.
    """
    making, refused = making or Making(), Refused()
    pairs = list(_pairs(read(answers, refused), min_chars, refused))
    settings = {
        "answers": str(answers),
        "judge": judged_by,
        "principles": {one.name: one.text for one in principles},
    }
    require_own(out, beside(out, "judged.jsonl"))
    with Ledger(beside(out, "judged.jsonl"), settings) as ledger:
        wait(_judge(pairs, principles, judge, ledger, refused))
        judged = [
            Judged(answered=one, gaps={name: tuple(gaps) for name, gaps in line["gaps"].items()})
            for one in pairs
            if (line := _line(one, ledger)) is not None
        ]
    rows, dropped = aggregate(judged, principles, making)
    if not rows:
        why = "; ".join([*dropped, *refused.places][:2]) or "no pairs"
        raise DataError(f"{answers}: {len(judged)} judged pairs, and no row: {why}")
    put(out, rows)
    return SalmonReport(
        pairs=len(judged),
        rows=len(rows),
        inconsistent={
            one.name: sum(not consistent(each.gaps[one.name]) for each in judged) / len(judged) for one in principles
        },
        decided=Counter(str(row["dominant"]) for row in rows if row["rule"] is None),
        rules=Counter(str(row["rule"]) for row in rows if row["rule"] is not None),
        flipped=sum(row["flipped"] for row in rows),
        dropped=dropped,
        refused=refused,
    )


def aggregate(
    judged: Sequence[Judged], principles: Sequence[Principle], making: Making
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Make rows of all pairs; also count the passes without a row, by reason.

    Random draws for a row depend on the seed, the pair's id and the pass alone, so that other pairs change nothing but
    the variances.
    """
    known = variances(one.gaps for one in judged)
    rows: list[dict[str, Any]] = []
    dropped = Counter[str]()
    for one in judged:
        for turn in range(making.passes):
            row = _row(one, principles, known, making, Random(f"{making.seed}/{one.answered.problem.id}/{turn}"))
            if isinstance(row, str):
                dropped[row] += 1
            else:
                rows.append(row)
    return rows, dropped


def _row(
    judged: Judged, principles: Sequence[Principle], known: Mapping[str, float], making: Making, random: Random
) -> dict[str, Any] | str:
    """Make a row, or give the reason why there is none."""
    shown = random.sample(list(principles), how_many(random, min(MOST, len(principles))))
    negated = {principle.name: random.random() < making.negate for principle in shown}
    scores = {name: combined(judged.gaps[name], known[name], turned) for name, turned in negated.items()}
    name = dominant(scores)
    if name is None:
        return "no principle prefers one in both orders"
    first, rule = _ruled(judged.answered, random) or (scores[name] > 0, None)
    if first is None:
        return "neither answer is in the language of the prompt"
    flipped = random.random() < (making.flip if rule is None else making.flip_ruled)
    best, worst = judged.answered.responses[:2] if first != flipped else judged.answered.responses[1::-1]
    return {
        "id": judged.answered.problem.id,
        "prompt": [dict(message) for message in judged.answered.problem.messages],
        "chosen": best,
        "rejected": worst,
        "principles": [principle.shown(negated[principle.name]) for principle in shown],
        "names": [principle.name for principle in shown],
        "negated": [int(negated[principle.name]) for principle in shown],
        "dominant": name,
        "rule": rule,
        "flipped": flipped,
    }


def _ruled(answered: Answered, random: Random) -> tuple[bool | None, Rule] | None:
    """Apply the rules: does one take the first answer, and which; (None, language): neither may win; None: no rule."""
    texts = answered.responses[:2]
    coin = random.random() < 0.5
    wanted = language("\n".join(str(message.get("content", "")) for message in answered.problem.messages))
    languages = [language(text) for text in texts]
    if wanted is not None and None not in languages:
        fits = [one == wanted for one in languages]
        if not any(fits):
            return None, "language"
        if fits[0] != fits[1]:
            return fits[0], "language"
    disclaims = [bool(DISCLAIMER.search(text)) for text in texts]
    if coin and disclaims[0] != disclaims[1]:
        return disclaims[1], "disclaimer"
    return None


def _pairs(given: Sequence[Answered], min_chars: int, refused: Refused) -> Iterator[Answered]:
    """Keep problems with two answers that are long enough; refuse the rest."""
    for answered in given:
        kept = [text for text in answered.responses if len(text.strip()) >= min_chars]
        if len(kept) < len(answered.responses):
            refused.add(f"id {answered.problem.id!r}", f"an answer of fewer than {min_chars} characters")
        if len(kept) < 2:
            refused.add(f"id {answered.problem.id!r}", "a prompt with fewer than two answers")
            continue
        yield Answered(answered.problem, kept[:2])


async def _judge(
    pairs: Sequence[Answered], principles: Sequence[Principle], judge: PairJudge, ledger: Ledger, refused: Refused
) -> None:
    """Judge the pairs that are not in the ledger yet, and write each down as soon as it is done."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(answered: Answered) -> None:
        if _line(answered, ledger) is not None:
            return
        async with slots:
            try:
                gaps = await asyncio.gather(
                    *(both_orders(judge, answered.problem, answered.responses, each) for each in principles)
                )
            except DataError as error:
                refused.add(f"id {answered.problem.id!r}", "a pair that the judge could not read", str(error))
                return
        names = [principle.name for principle in principles]
        ledger.add(
            {
                "id": answered.problem.id,
                "responses": answered.responses,
                "gaps": dict(zip(names, gaps, strict=True)),
            }
        )

    await asyncio.gather(*map(one, pairs))


def _line(answered: Answered, ledger: Ledger) -> Mapping[str, Any] | None:
    """The ledger's line of this very pair; None where there is none, or its answers differ."""
    line = ledger.lines.get(answered.problem.id)
    return line if line is not None and line["responses"] == answered.responses else None
