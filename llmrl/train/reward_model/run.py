"""Train reward models by a recipe: pairs by TRL's RewardTrainer, others by Transformers' Trainer with our losses."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean, pstdev
from typing import Any, TypeVar

import torch

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError, DataError
from llmrl.evaluation.reward_model import report
from llmrl.evaluation.statistics import Estimate
from llmrl.reward_models import card as cards
from llmrl.reward_models.card import LINKS, Calibration, Card, Kind, Positions
from llmrl.reward_models.encoding import Encoder
from llmrl.reward_models.model import RewardModel, load
from llmrl.reward_models.network import pretrained
from llmrl.reward_models.preferences import balanced
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.rows import AnswerRow, LabelledRow, PreferencePair
from llmrl.reward_models.training_rows import answers_of, read
from llmrl.run_folder.lock import FolderLock
from llmrl.run_folder.ownership import RECIPE, TRACES, traces
from llmrl.run_folder.records import METRICS
from llmrl.train.launched import trained_weights
from llmrl.train.network import plain_model
from llmrl.train.reward_model.trainers import PairRow, TokenRow, label_trainer, pair_trainer, weights

R = TypeVar("R", PreferencePair, LabelledRow)
Say = Callable[[str], None]
MEASURES = ("pairwise_accuracy", "accuracy", "auc", "step_accuracy", "first_error_accuracy")
"""What is printed of the rows that a model has not learned from, of its kind."""


def train(recipe: RewardRecipe, name: str = "reward_model", say: Say = print) -> Path:
    """Train a reward model by a recipe, and return its folder; under `accelerate launch` every process calls it.

    Args:
        recipe: what to train.
        name: of the folder below `train.output_dir`, where the recipe names none.
        say: receives lines about the progress, of the first process alone.
    Raises:
        DataError: rows cannot be read, or none can be learned from.
        CheckpointError: the model does not load, or the folder cannot be written, is in use, or holds a model already.
        TrainingError: the loss is no longer finite.
    """
    hush()
    folder = Path(recipe.train.output_dir) / (recipe.train.run_name or name)
    if int(os.environ.get("RANK", "0")):
        return _train(recipe, folder, _silent)
    with FolderLock(folder, "choose another train.run_name", elsewhere="choose another train.output_dir"):
        if kept := traces(folder, (*TRACES, cards.FILE, "config.json", "model.safetensors")):
            raise CheckpointError(
                f"{folder}: already holds a model or a run ({', '.join(kept)}); choose another train.run_name, or "
                "remove the folder"
            )
        return _train(recipe, folder, say)


def _train(recipe: RewardRecipe, folder: Path, say: Say) -> Path:
    """Train in a folder that is free; returns it."""
    tokenizer = load_tokenizer(recipe.model.model_name_or_path, recipe.model.model_revision)
    encoder = Encoder(Chat(tokenizer), recipe.input.template, recipe.input.separator, recipe.input.max_length)
    rows, test, rejected = rows_of(recipe)
    say(f"{len(rows)} rows to learn from, {len(test)} to test on; left out: {dict(rejected) or 'none'}")
    trainer = _trainer(recipe, rows, encoder, folder, say)
    trainer.train()
    state = trained_weights(trainer)
    if trainer.is_world_process_zero():
        _save(trainer, recipe, state, folder, tokenizer)
        answers = [answer for row in [*test, *rows][: recipe.train.calibration_rows] for answer in answers_of(row)]
        describe(
            recipe.kind,
            encoder,
            folder,
            answers[: recipe.train.calibration_rows],
            backbone=recipe.model.model_name_or_path,
            revision=recipe.model.model_revision,
            positions=recipe.loss.positions,
            dtype=getattr(torch, recipe.model.dtype),
        )
        if test:
            say(held_out(folder, test))
        reward = {"process": "process_model", "token": "token_model"}.get(recipe.kind, "reward_model")
        say(f"reward model: {folder}\nnext, in a recipe: reward: {{name: {reward}, path: {folder}}}")
    trainer.accelerator.wait_for_everyone()
    return folder


def held_out(folder: Path, test: Sequence[Any]) -> str:
    """The accuracy of a reward model that has been written, on rows that it has not learned from, in a line."""
    try:
        numbers = report(load(str(folder)), test).numbers
    except (ValueError, ZeroDivisionError) as error:  # too few rows, or none that fits: the model is there
        return f"held out, {len(test)} rows: not measured: {error}"
    measured = {name: numbers[name] for name in MEASURES if numbers.get(name) is not None}
    shown = [
        f"{name} {each.value:.3f} ({each.low:.3f} to {each.high:.3f})"
        if isinstance(each, Estimate)
        else f"{name} {each:.3f}"
        for name, each in measured.items()
    ]
    return f"held out, {len(test)} rows: {', '.join(shown) or 'nothing to measure'}; more by `llmrl eval-rm`"


def rows_of(recipe: RewardRecipe) -> tuple[list[Any], list[Any], Counter[str]]:
    """Read rows to learn from, rows to test on, without common problems, and counts of those left out."""
    data = recipe.data
    loaded = read(recipe.columns, data.train, data.limit, data.neutral_as)
    if data.test is not None:
        rows, test = loaded.kept, read(recipe.columns, data.test, data.limit, data.neutral_as).kept
    else:
        rows, test = parted(loaded.kept, data.test_share, data.seed)
    rejected = Counter(loaded.rejected)
    if data.balance is not None:
        even = balanced(rows, data.balance)
        rows, rejected = even.kept, rejected + even.rejected
    return rows, test, rejected


def parted(rows: Sequence[R], share: float, seed: int) -> tuple[list[R], list[R]]:
    """Split rows into those to learn from and those to test on, by problem: siblings stay together."""
    problems = sorted({row.problem for row in rows})
    Random(seed).shuffle(problems)
    held = set(problems[: round(share * len(problems))])
    return [row for row in rows if row.problem not in held], [row for row in rows if row.problem in held]


def _trainer(recipe: RewardRecipe, rows: Sequence[Any], encoder: Encoder, folder: Path, say: Say) -> Any:
    """Make the trainer of the rows that fit into `max_length`.

    Raises:
        DataError: no row fits.
    """
    encoded = [[encoder(answer) for answer in answers_of(row)] for row in rows]
    fitting = [i for i, answers in enumerate(encoded) if not any(answer.cut for answer in answers)]
    if not fitting:
        shortest = min(max(len(answer.token_ids) + answer.cut for answer in answers) for answers in encoded)
        raise DataError(
            f"input.max_length {recipe.input.max_length}: none of the {len(rows)} rows fits; the shortest has "
            f"{shortest} tokens"
        )
    if len(fitting) < len(rows):
        say(
            f"{len(rows) - len(fitting)} of {len(rows)} rows are longer than {recipe.input.max_length} tokens: left out"
        )
    if recipe.kind == "outcome":
        by_problem = weights([rows[i].problem for i in fitting])
        pairs = [
            PairRow(encoded[i][0], encoded[i][1], rows[i].margin, weight)
            for i, weight in zip(fitting, by_problem, strict=True)
        ]
        tokenizer = load_tokenizer(recipe.model.model_name_or_path, recipe.model.model_revision)  # TRL changes it
        return pair_trainer(recipe, pairs, folder, tokenizer, say)
    return label_trainer(recipe, [TokenRow(encoded[i][0], rows[i].labels) for i in fitting], folder, say)


def _save(trainer: Any, recipe: RewardRecipe, state: dict[str, Any], folder: Path, tokenizer: Any) -> None:
    """Write the folder without its card: weights, tokenizer, recipe, and the log.

    Raises:
        CheckpointError: the disk is full or not writable.
    """
    import yaml

    network = plain_model(trainer.model)
    network.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        network.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
        (folder / RECIPE).write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False), encoding="utf-8")
        lines = [json.dumps(line) for line in trainer.state.log_history]
        (folder / METRICS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: the reward model was not written: {error}; make room and train again"
        ) from error


def describe(
    kind: Kind,
    encoder: Encoder,
    folder: Path,
    answers: Sequence[AnswerRow],
    *,
    backbone: str,
    revision: str | None = None,
    positions: Positions = "last_token",
    dtype: torch.dtype = torch.float32,
) -> Card:
    """Write the card of the model in a folder, with the scores that it gives to the answers, if there are any."""
    network: Any = pretrained(kind, folder, dtype=dtype)
    card = Card(
        kind=kind,
        link=LINKS[kind],
        template=encoder.template,
        template_sha256=cards.template_hash(encoder.template, encoder.chat.tokenizer),
        separator=encoder.separator,
        positions=positions,
        max_length=encoder.max_length,
        backbone=backbone,
        backbone_sha256=cards.fingerprint(backbone) if Path(backbone).is_dir() else str(revision or ""),
        weights_sha256=cards.fingerprint(folder),
    )
    if answers:
        network.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)
        card = replace(card, calibration=calibrated(RewardModel(card, encoder, network), answers))
    cards.write(folder, card)
    return card


def calibrated(model: RewardModel, answers: Sequence[AnswerRow]) -> Calibration:
    """Mean, deviation and range of the raw scores of answers; of all their steps, for a process model.

    Raises:
        DataError: none of them has a score.
    """
    scored = model.steps(answers) if model.card.kind == "process" else model.sequences(answers)
    numbers = [logit for answer in scored for logit in answer.logits if logit is not None]
    if not numbers:
        raise DataError(
            f"none of the {len(answers)} answers of the calibration has a score: they have no steps, or are longer "
            "than max_length; expected rows like those that the model is to judge"
        )
    return Calibration(mean=fmean(numbers), std=pstdev(numbers), low=min(numbers), high=max(numbers), rows=len(answers))


def _silent(line: str) -> None:
    """Drop a line: `say` of all processes but the first."""


def hush() -> None:
    """Switch off progress bars and notices of the libraries."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
