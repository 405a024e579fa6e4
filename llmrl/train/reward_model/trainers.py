"""The trainers behind reward models: TRL's for pairs, Transformers' with one loss for everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmrl.errors import CheckpointError, DataError, TrainingError
from llmrl.ops.reward_models import IGNORED, bradley_terry, labelled_bce, mean_logit_bce, sequence_bce
from llmrl.reward_models.encoding import Encoded
from llmrl.reward_models.network import padded, pretrained
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.train.adapters import adapted
from llmrl.train.launched import process_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, TrainerCallback

Say = Callable[[str], None]
SHOWN = ("loss", "accuracy", "margin", "mean_reward", "grad_norm", "learning_rate", "epoch")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """An answer as tokens, with its labels."""

    encoded: Encoded
    labels: Sequence[float]  # one of the answer, or one of each step


@dataclass(frozen=True, slots=True)
class PairRow:
    """A pair as tokens."""

    chosen: Encoded
    rejected: Encoded
    margin: float | None = None
    weight: float = 1.0  # 1 on average


def weights(problems: Sequence[str]) -> list[float]:
    """Weight each pair by its problem: problems weigh the same, and the mean weight is 1."""
    pairs = Counter(problems)
    return [len(problems) / len(pairs) / pairs[problem] for problem in problems]


def pair_trainer(recipe: RewardRecipe, rows: Sequence[PairRow], folder: Path, tokenizer: Any, say: Say) -> Any:
    """Make TRL's RewardTrainer for pairs that are tokens already, each with its margin and its weight.

    Raises:
        DataError: margins are demanded, and rows lack them.
        CheckpointError: the model does not load.
    """
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference

    if recipe.loss.margin and any(row.margin is None for row in rows):
        raise DataError("loss.margin is on, but not every row names a `margin`; add the column, or set it off")
    columns: list[dict[str, Any]] = [
        {"chosen_ids": row.chosen.token_ids, "rejected_ids": row.rejected.token_ids, "weight": row.weight}
        for row in rows
    ]
    if recipe.loss.margin:
        columns = [{**column, "margin": row.margin} for column, row in zip(columns, rows, strict=True)]
    coefficient = recipe.loss.center_rewards_coefficient or None
    arguments = RewardConfig(
        **_arguments(recipe, folder), max_length=None, center_rewards_coefficient=coefficient, disable_dropout=False
    )

    class WeighedTrainer(RewardTrainer):  # type: ignore[misc]
        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            self._signature_columns: list[str] = [*dict.fromkeys([*self._signature_columns, "weight"])]

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            weight = inputs.pop("weight")
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            if recipe.loss.weigh != "pair":
                chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
                terms = bradley_terry(chosen, rejected, inputs.get("margin", 0.0), coefficient or 0.0)
                loss = (weight * terms).mean()
            return (loss, outputs) if return_outputs else loss

    class Collator(DataCollatorForPreference):  # type: ignore[misc]
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            weight = torch.tensor([example["weight"] for example in examples])
            return {**super().torch_call(examples), "weight": weight}

    network = _network(recipe, dropout=False)  # TRL's own option would take that of the adapters, too
    # Transformers' classifiers look for the last token that is not padding: with padding == end of sequence, the usual
    # choice, they would read the score one token too early. The tokenizer must agree: the trainer copies its padding.
    padding = _unused_id(tokenizer, (answer for row in rows for answer in (row.chosen, row.rejected)))
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    trainer = WeighedTrainer(
        model=network,
        args=arguments,
        train_dataset=Dataset.from_list(columns),
        processing_class=tokenizer,
        data_collator=Collator(pad_token_id=padding),
        callbacks=[_follow(say)],
    )
    return _plain(trainer)


def label_trainer(recipe: RewardRecipe, rows: Sequence[TokenRow], folder: Path, say: Say) -> Any:
    """Make Transformers' Trainer with the loss of the recipe's kind.

    The loss is divided by the items of the whole step: all ranks, all micro-batches.

    Raises:
        CheckpointError: the model does not load.
    """
    from transformers import Trainer, TrainingArguments

    whole_answers = recipe.kind == "token" or recipe.loss.average == "sequence"
    loss = loss_of(recipe)

    class LabelTrainer(Trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.squeeze(-1)
            total = loss(logits, inputs["labels"], inputs["response"])
            share = total * self.accelerator.num_processes / num_items_in_batch
            return (share, logits) if return_outputs else share

    trainer = LabelTrainer(
        model=_network(recipe),
        args=TrainingArguments(**_arguments(recipe, folder), remove_unused_columns=False),
        train_dataset=list(rows),
        data_collator=lambda batch: collate(batch, recipe, whole_answers),
        callbacks=[_follow(say)],
    )
    trainer.model_accepts_loss_kwargs = True  # the loss divides by the global number of items itself
    trainer._loss_shifts_labels = False
    return _plain(trainer)


def loss_of(recipe: RewardRecipe) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Make the loss of (B, T) logits, labels and the response's mask: the sum over the items of a batch."""
    if recipe.kind == "token":
        return mean_logit_bce
    if recipe.kind == "verifier" and recipe.loss.average == "sequence":
        return sequence_bce
    return lambda logits, labels, response: labelled_bce(logits, labels)


def collate(rows: Sequence[TokenRow], recipe: RewardRecipe, whole_answers: bool) -> dict[str, Tensor]:
    """Pad rows to a batch; `labels` are (B,) of whole answers, else (B, T), and count the items of the loss."""
    token_ids, mask = padded([row.encoded for row in rows])
    response = torch.zeros_like(mask)
    labels = torch.full(token_ids.shape, float(IGNORED))
    for index, row in enumerate(rows):
        places = row.encoded.response
        response[index, max(places.start, 0) : places.stop] = True
        if recipe.kind == "process":
            labels[index, row.encoded.step_ends] = torch.tensor(list(row.labels), dtype=torch.float32)
        elif recipe.loss.positions == "all_tokens":
            labels[index, response[index]] = row.labels[0]
        else:
            labels[index, len(row.encoded.token_ids) - 1] = row.labels[0]
    if whole_answers:
        labels = torch.tensor([row.labels[0] for row in rows])
    return {"input_ids": token_ids, "attention_mask": mask.long(), "labels": labels, "response": response}


def _arguments(recipe: RewardRecipe, folder: Path) -> dict[str, Any]:
    """Arguments of both trainers."""
    fit = recipe.train
    return {
        "output_dir": str(folder),
        "num_train_epochs": fit.num_train_epochs,
        "max_steps": fit.max_steps or -1,
        "learning_rate": fit.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(fit.lr_scheduler_type, fit.lr_scheduler_type),
        "warmup_steps": fit.warmup_steps,
        "weight_decay": fit.weight_decay,
        "max_grad_norm": fit.max_grad_norm,
        "per_device_train_batch_size": fit.per_device_train_batch_size,
        "gradient_accumulation_steps": fit.gradient_accumulation_steps,
        "bf16": fit.bf16,
        "gradient_checkpointing": fit.gradient_checkpointing,
        "logging_steps": fit.logging_steps,
        "seed": fit.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **process_arguments(),
    }


def _network(recipe: RewardRecipe, dropout: bool = True) -> PreTrainedModel:
    """Load the classifier to train, its head made from the recipe's seed; with LoRA adapters where asked.

    Args:
        dropout: False: none but that of the adapters.
    """
    from transformers import set_seed

    options = recipe.model
    set_seed(recipe.train.seed)
    network = pretrained(
        recipe.kind,
        options.model_name_or_path,
        revision=options.model_revision or "main",
        dtype=getattr(torch, options.dtype),
        attn_implementation=options.attn_implementation,
        trust_remote_code=options.trust_remote_code,
    )
    if not dropout:
        for part in network.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
    return _adapted(network, recipe) if options.use_peft else network


def _adapted(network: Any, recipe: RewardRecipe) -> PreTrainedModel:
    made: Any = adapted(network, recipe.model, exclude_modules="score")
    made.get_base_model().score.requires_grad_(True)  # random as it is, the head must learn in full
    model: PreTrainedModel = made
    return model


def _unused_id(tokenizer: Any, rows: Iterable[Encoded]) -> int:
    """Find a token that no row holds, to pad with.

    Raises:
        CheckpointError: every token of the vocabulary occurs.
    """
    used = {token for row in rows for token in row.token_ids}
    for token in reversed(range(len(tokenizer))):
        if token not in used:
            return token
    raise CheckpointError(
        "the rows use every token of the vocabulary: none is left to pad with; expected a padding token"
    )


def _plain(trainer: Any) -> Any:
    """Remove the callback that prints every log."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def _follow(say: Say) -> TrainerCallback:
    """Make a callback that reports each log, and ends a training whose loss is not finite."""
    from transformers import TrainerCallback

    class Follow(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if not isfinite(float(logs["loss"])):
                raise TrainingError(f"step {state.global_step}: the loss is {logs['loss']}; try a lower learning_rate")
            if state.is_world_process_zero:
                shown = (f"{name} {float(logs[name]):.4g}" for name in SHOWN if name in logs)
                say(f"step {state.global_step}  {'  '.join(shown)}")

    return Follow()
