"""Trainers of Transformers and TRL under a launch: their arguments for its processes, and their weights."""

from __future__ import annotations

import os
from typing import Any

import torch

from llmrl.run_folder.launch import require_launch
from llmrl.train.parallel import deepspeed_prepared
from llmrl.train.weight_sync import full_weights


def process_arguments() -> dict[str, Any]:
    """Options of `TrainingArguments` that follow from the machine and from how this process was launched.

    Raises:
        RecipeError: the environment speaks of processes that nobody launched.
        TrainingError: DeepSpeed's extension does not compile.
    """
    require_launch()
    on_cpu = not torch.cuda.is_available()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    deepspeed = deepspeed_prepared(on_cpu)
    return {
        "use_cpu": on_cpu and not deepspeed,
        "ddp_backend": "gloo" if on_cpu and several else None,
        "dataloader_pin_memory": not on_cpu,
    }


def trained_weights(trainer: Any) -> dict[str, Any]:
    """Gather every weight under its Hugging Face name, on the CPU of the first process; all processes take part."""
    plugin = trainer.accelerator.state.deepspeed_plugin
    sharded = plugin is not None and int(plugin.zero_stage) == 3
    main = trainer.is_world_process_zero()
    return {name: weight.cpu() for name, weight in full_weights(trainer.model, sharded) if main}
