"""Make preference rows from answers and an order of factors: the command `llmrl data heron`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.aio import wait
from llmrl.datagen.answered import Answered, Refused, read
from llmrl.datagen.ledger import Ledger, beside, put, require_own
from llmrl.errors import DataError
from llmrl.ops.heron import Level, cyclic_share, decisions, deviations
from llmrl.plugins import construct
from llmrl.recipe import yaml_text
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.ranked_factors import Factor, Panel, check, described, levels, lifted
from llmrl.types import Completion, Problem, Trajectory, Turn

AT_ONCE = 16  # problems whose answers are measured at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class HeronReport:
    """Counts of the answers, their pairs and their rows."""

    problems: int
    answers: int  # that every factor could judge
    rows: int
    decided: Mapping[str, int]  # pairs, by the factor that decided
    undecided: int  # pairs that were dropped
    cycles: float | None  # of decided triples of one prompt's answers
    constant: Sequence[str]  # factors that are the same for all answers, and decide nothing
    refused: Refused

    def lines(self) -> Iterator[str]:
        """Lines to print."""
        pairs = sum(self.decided.values()) + self.undecided
        yield f"{self.problems:,} problems, {self.answers:,} answers, {pairs:,} pairs, {self.rows:,} rows"
        for name, count in self.decided.items():
            yield f"decided by {name}: {count:,} ({count / max(pairs, 1):.1%})"
        yield from (f"warning: {name} is the same for all answers and decides nothing" for name in self.constant)
        yield f"undecided, dropped: {self.undecided:,} ({self.undecided / max(pairs, 1):.1%})"
        yield f"cyclic triples: {'none decided' if self.cycles is None else f'{self.cycles:.2%}'}"
        yield from (f"left out: {count:,} times {reason}" for reason, count in self.refused.counts.items())
        yield from self.refused.places


def factors_of(path: Path) -> list[Factor]:
    """Read the factors of a YAML file: a list in order of importance, or a recipe whose reward is `heron`.

    Raises:
        DataError: no such file, or no such list.
        RecipeError: an unknown key, reward or option.
    """
    try:
        entries = yaml_text.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError) as error:  # a RecipeError is one
        raise DataError(f"{path}: no factors can be read: {error}") from error
    if isinstance(entries, Mapping):
        reward = entries.get("reward")
        entries = reward.get("factors") if isinstance(reward, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError(f"{path}: expected a list of factors, such as `- {{name: numeric}}`, or a recipe of heron")
    made: list[Factor] = [construct(Factor, entry, f"{path}: factor {n}") for n, entry in enumerate(entries, start=1)]
    check(made)
    return made


def write(
    answers: Path, out: Path, factors: Sequence[Factor], *, workers: int = 2, timeout_s: float = 60.0
) -> HeronReport:
    """Write a row for each pair of one prompt's answers that the tree decides.

    Args:
        answers: prompts with several answers each (see `answered.read`).
        out: a .jsonl file of rows `prompt`, `chosen`, `rejected`, `level`, `factor`, `id`; replaced as a whole. Beside
            it stay `.measured.jsonl`, the factors of every answer, from which a second call goes on, and
            `.calibration.json`: deviations and thresholds, for the reward `heron`.
        factors: the most important first.
        workers, timeout_s: processes that judge, and their limit for an answer.
    Raises:
        DataError: the files cannot be read, `out` is another file of yours, or no pair is decided.
        LlmrlError: something cannot be written.
    """
    refused = Refused()
    given = read(answers, refused)
    settings = {"answers": str(answers), "factors": described(factors)}
    require_own(out, beside(out, "measured.jsonl"))
    with Ledger(beside(out, "measured.jsonl"), settings) as ledger, GradingPool(workers, timeout_s) as pool:
        wait(_measure(given, lifted(factors, pool), ledger))
        measured = {one.problem.id: _known(one, ledger.lines[one.problem.id], refused) for one in given}
    rows = [row for known in measured.values() for _, row in known]
    if not rows:
        raise DataError(f"{answers}: the factors could judge no answer; the first: {'; '.join(refused.places[:1])}")
    frozen = dict(zip((one.name for one in factors), deviations(rows), strict=True))
    order = levels(factors, frozen)
    _calibrate(beside(out, "calibration.json"), factors, frozen, order, len(rows))
    written, counts, cycles = _pairs(given, measured, order, factors)
    if not written:
        raise DataError(f"{answers}: no pair is decided; expected prompts with answers that differ in some factor")
    put(out, written)
    return HeronReport(
        problems=len(given),
        answers=len(rows),
        rows=len(written),
        decided={one.name: counts[number] for number, one in enumerate(factors)},
        undecided=counts[None],
        cycles=cycles,
        constant=[one.name for one, deviation in zip(factors, frozen.values(), strict=True) if deviation == 0],
        refused=refused,
    )


async def _measure(given: Sequence[Answered], panel: Panel, ledger: Ledger) -> None:
    """Measure the problems that are not in the ledger yet, and write each down as soon as it is done."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def measure(answered: Answered) -> None:
        before = ledger.lines.get(answered.problem.id)
        if before is not None and before.get("responses") == answered.responses:
            return
        async with slots:
            measured = await panel.measure([_spoken(answered.problem, text) for text in answered.responses])
        line = {
            "id": answered.problem.id,
            "responses": answered.responses,
            "factors": [scores.row for scores in measured],
            "reasons": [scores.reason for scores in measured],
        }
        ledger.add(line, keep=all(scores.row is not None for scores in measured))

    await asyncio.gather(*map(measure, given))


def _spoken(problem: Problem, text: str) -> Trajectory:
    """Make a trajectory of an answer of which only the text is known."""
    completion = Completion(token_ids=[], logprobs=[], finish="stop", version=0)
    return Trajectory(problem=problem, turns=[Turn(prompt_ids=[], completion=completion, text=text)], status="done")


def _known(answered: Answered, line: Mapping[str, Any], refused: Refused) -> list[tuple[str, list[float]]]:
    """Answers that every factor could judge, with their numbers."""
    judged = []
    for text, row, reason in zip(answered.responses, line["factors"], line["reasons"], strict=True):
        if row is None:
            refused.add(f"id {answered.problem.id!r}", "an answer that could not be judged", reason)
        else:
            judged.append((text, row))
    return judged


def _pairs(
    given: Sequence[Answered],
    measured: Mapping[str, Sequence[tuple[str, list[float]]]],
    order: Sequence[Level],
    factors: Sequence[Factor],
) -> tuple[list[dict[str, Any]], Counter[int | None], float | None]:
    """Rows; pairs decided by each level, None for undecided ones; the mean share of cycles."""
    rows, counts, cycles = [], Counter[int | None](), []
    for one in given:
        known = measured[one.problem.id]
        numbers = [row for _, row in known]
        share = cyclic_share(numbers, order)
        cycles += [] if share is None else [share]
        for pair in decisions(numbers, order):
            counts[pair.level] += 1
            if pair.level is None:
                continue
            best, worst = (pair.first, pair.second) if pair.label > 0 else (pair.second, pair.first)
            rows.append(
                {
                    "id": one.problem.id,
                    "prompt": [dict(message) for message in one.problem.messages],
                    "chosen": known[best][0],
                    "rejected": known[worst][0],
                    "level": pair.level,
                    "factor": factors[pair.level].name,
                }
            )
    return rows, counts, sum(cycles) / len(cycles) if cycles else None


def _calibrate(
    path: Path, factors: Sequence[Factor], frozen: Mapping[str, float], order: Sequence[Level], count: int
) -> None:
    found = {
        one.name: {"std": frozen[one.name], "threshold": level.threshold, "sign": one.sign}
        for one, level in zip(factors, order, strict=True)
    }
    put(path, [{"answers": count, "factors": found}])
