"""Everything that `final/` needs, tried before the first step: a run must not find out behind its last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmrl.errors import CheckpointError
from llmrl.train.learner import Learner
from llmrl.train.network import plain_model

TRIAL = "final.trial"
_MOMENTS = 2
"""Numbers of the optimiser for each trained weight."""


def try_export(
    policy: Learner, others: Sequence[Learner], tokenizer: Any, folder: Path, *, trust_remote_code: bool = False
) -> None:
    """Write all but the weights of `final/` into a folder beside it, read it again, and remove it.

    Args:
        policy: whose configurations they are; `others` only need room.
        folder: the run's own, which exists.
    Raises:
        CheckpointError: something cannot be written or not be read, or there is no room for a checkpoint and the model.
    """
    from transformers import AutoConfig, AutoTokenizer

    trial, plain = folder / TRIAL, plain_model(policy.net.model)
    try:
        shutil.rmtree(trial, ignore_errors=True)
        plain.config.save_pretrained(trial)
        if plain.can_generate():
            plain.generation_config.save_pretrained(trial)
        tokenizer.save_pretrained(trial)
        again = AutoTokenizer.from_pretrained(trial, trust_remote_code=trust_remote_code)
        if not plain.is_remote_code():
            AutoConfig.from_pretrained(trial)
    except Exception as error:  # configurations and tokenizers, remote code among them, fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{folder / 'final'}: the trained model could not be written: {type(error).__name__}: {reason}; mend the "
            "folder in model.policy, or choose another train.output_dir"
        ) from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    if again.chat_template != tokenizer.chat_template or len(again) != len(tokenizer):
        raise CheckpointError(
            f"{folder / 'final'}: the tokenizer is another after it was saved and read again: "
            f"{len(tokenizer)} tokens are {len(again)}, or its chat template has changed; save it anew in model.policy"
        )
    _require_room(policy, others, folder)


def _require_room(policy: Learner, others: Sequence[Learner], folder: Path) -> None:
    """Refuse a disk that cannot hold one checkpoint and the exported models beside what it holds already."""
    exported = trained = 0
    for learner in (policy, *others):
        for parameter in learner.net.parameters():
            size = int(getattr(parameter, "ds_numel", parameter.numel())) * parameter.element_size()
            exported += size
            trained += size if parameter.requires_grad else 0
    needed, free = 2 * exported + _MOMENTS * trained, shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{folder}: {free / 2**20:,.0f} MiB are free there, and a checkpoint with the exported model takes "
            f"{needed / 2**20:,.0f} MiB; make room, or choose another train.output_dir"
        )
