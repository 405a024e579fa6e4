"""Choose stored answers to rehearse later: those that succeed and that the trained policy finds likeliest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmrl.datafiles.order import Unit
from llmrl.errors import DataError, RecipeError
from llmrl.offline.formats import ROLLOUTS
from llmrl.ops.credit import total
from llmrl.ops.returns import rehearsed
from llmrl.recipe import Recipe
from llmrl.samples import Sample, prompt_hash
from llmrl.sources.offline import Offline
from llmrl.train.stored_columns import annotated_rows

LOGPROBS = "ref_logprobs"


@dataclass
class _Answers:
    """Answers of all rows, by what they are chosen by."""

    places: list[tuple[int, int]] = field(default_factory=list)  # first row of the unit, episode
    nll: list[float] = field(default_factory=list)  # per token
    success: list[bool] = field(default_factory=list)
    problems: list[bytes] = field(default_factory=list)  # hash of the prompt's tokens

    def add(self, row: int, samples: list[Sample], min_reward: float) -> None:
        """Add the answers of a row, but for those that are there to be rejected."""
        for episode in sorted({sample.episode for sample in samples if sample.role != "rejected"}):
            own = [sample for sample in samples if sample.episode == episode]
            said = sum(float(sample.get(LOGPROBS)[sample.action_mask].sum()) for sample in own)
            self.places.append((row, episode))
            self.nll.append(-said / max(1, sum(sample.actions for sample in own)))
            self.success.append(total(own) > min_reward)
            self.problems.append(prompt_hash(own[0]))


def write_selection(recipe: Recipe, out: Path, *, keep: int, per_problem: int | None, min_reward: float) -> int:
    """Write the chosen rows of the recipe's offline source, each with its `nll_per_token`. Collective.

    Args:
        recipe: its `model.policy` is the policy that was trained on the rows.
        out: a .jsonl file that is not there yet.
        keep: rows at most.
        per_problem: rows of one problem at most; None: any number.
        min_reward: answers with a reward above it have succeeded.
    Returns:
        The number of rows in the main process, which writes them; 0 in the others.

    Raises:
        RecipeError: the source is not `offline`.
        DataError: the rows cannot be read, none succeeded, or the file is there.
    """
    if not isinstance(recipe.source, Offline) or recipe.source.path is None:
        raise RecipeError("llmrl data select: the source has no file; expected source.name=offline with a path")
    if out.exists():
        raise DataError(f"{out} is there; remove it, or choose another --out")
    processes, source, rows = annotated_rows(recipe, out.parent, frozenset({LOGPROBS}))
    answers = _Answers()
    for number, samples in rows:
        answers.add(number, list(samples), min_reward)
    if not processes.is_main_process:
        return 0
    chosen = rehearsed(answers.nll, answers.success, keep, answers.problems, per_problem)
    if not chosen:
        raise DataError(f"{recipe.source.path}: no answer has a reward above {min_reward}; lower --min-reward")
    kept: dict[int, dict[int, float]] = {}
    for i in chosen:
        row, episode = answers.places[i]
        kept.setdefault(row, {})[episode] = answers.nll[i]
    lines = list(_lines(recipe.source.units(), source.data["format"] == ROLLOUTS, kept))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def _lines(units: Iterator[Unit], episodes: bool, kept: Mapping[int, Mapping[int, float]]) -> Iterator[str]:
    """The chosen rows as they stand, with the number that they were chosen by; a row is an episode, or has several."""
    for unit in units:
        own = kept.get(unit[0].index, {})
        for row in unit:
            nll = own.get(row.values["episode"]) if episodes else min(own.values(), default=None)
            if nll is not None:
                yield json.dumps({**row.values, "nll_per_token": nll}, ensure_ascii=False) + "\n"
