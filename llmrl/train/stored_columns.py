"""Compute columns of stored rows once, by the models of a recipe, and keep them beside the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from llmrl.chat import Chat, load_tokenizer
from llmrl.columns import filled_by
from llmrl.errors import RecipeError
from llmrl.offline.source import OfflineSource, rows_id
from llmrl.offline.stored_columns import ColumnCard, write
from llmrl.recipe import Recipe
from llmrl.rollout.context import SourceContext
from llmrl.run_folder.fingerprint import fingerprint
from llmrl.samples import Sample
from llmrl.sources.offline import Offline
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator

ROWS = 256
"""Rows that are annotated at a time."""


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """Fingerprints of the models of a run whose columns can be stored, by filler: the reference's.

    A reference that moves has none that a stored column could have.
    """
    model = recipe.model
    name = fingerprint(model.policy, model.model_revision)
    state = f"{name} at temperature {recipe.rollout.temperature:g} in {recipe.compute_dtype}"
    return {"reference": f"{state}, moving" if model.sync_ref_model else state}


def write_columns(recipe: Recipe, out: Path) -> int:
    """Write the columns of frozen models that the recipe's algorithm needs. Collective.

    Returns:
        The number of rows in the main process, which writes them; 0 in the others.

    Raises:
        RecipeError: the source is not `offline`, or the algorithm needs no such column.
        DataError: the rows cannot be read, or the folder cannot be written.
    """
    if not isinstance(recipe.source, Offline):
        raise RecipeError("llmrl data columns: the recipe's source plays; expected source.name=offline")
    needs = recipe.algorithm.needs() & filled_by("reference").keys()
    if not needs or recipe.model.sync_ref_model:
        raise RecipeError(
            "llmrl data columns: nothing to write: the algorithm as it is set here needs no column of a model that "
            "stands still"
        )
    processes, source, rows = annotated_rows(recipe, out, needs)
    made = [
        ColumnCard(column=name, fingerprint=fingerprints(recipe)["reference"], rows=rows_id(source.data))
        for name in sorted(needs)
    ]
    if processes.is_main_process:
        return write(out, made, rows)
    for _ in rows:  # passes of sharded models are collective
        pass
    return 0


def annotated_rows(
    recipe: Recipe, folder: Path, needs: Set[str]
) -> tuple[Any, OfflineSource, Iterator[tuple[int, Sequence[Sample]]]]:
    """The processes, the recipe's offline source in the order of its file, and its rows with columns of its models.

    Rows come with the number of the first of each unit, from 0; the passes behind them are collective.
    """
    assert isinstance(recipe.source, Offline)
    processes, model = accelerator(recipe.train), recipe.model
    learners = Learners(recipe, processes, frozenset(needs), only_needs=True)
    chat = Chat(
        load_tokenizer(model.policy, model.model_revision, model.trust_remote_code),
        model.system_prompt,
        model.chat_template_kwargs,
    )
    in_order = replace(recipe.source, shuffle="none", columns=None)
    source = in_order.start(SourceContext(chat=chat, options=recipe.rollout, seed=recipe.train.seed, folder=folder))
    return processes, source, _annotated(source, learners, sorted(needs))


def _annotated(
    source: OfflineSource, learners: Learners, needs: Sequence[str]
) -> Iterator[tuple[int, Sequence[Sample]]]:
    """Rows of an epoch with the columns, some at a time."""
    rows = source.epoch()
    while some := list(islice(rows, ROWS)):
        filled = iter(learners.annotate([sample for _, samples in some for sample in samples], needs))
        for number, samples in some:
            yield number, [next(filled) for _ in samples]
