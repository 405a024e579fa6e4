"""Processes of a run: the Accelerator, and collective operations on lists and parameters."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from llmrl.errors import RecipeError
from llmrl.recipe import TrainOptions
from llmrl.recipe.trackers import require_installed
from llmrl.run_folder.launch import require_launch
from llmrl.train import extensions
from llmrl.train.exchange import pack, unpack
from llmrl.train.freed_memory import give_back

T = TypeVar("T")
PATIENCE = timedelta(hours=6)


def deepspeed_prepared(on_cpu: bool) -> bool:
    """Tell whether the launch asks for DeepSpeed; the environment and the extensions are then ready for it.

    Raises:
        TrainingError: its extension does not compile.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
        return False
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        os.environ.pop("ACCELERATE_USE_CPU", None)  # with it DeepSpeed would be switched off without a word
    extensions.prepare(on_cpu)
    return True


def accelerator(options: TrainOptions, logging_dir: str | None = None) -> Any:
    """Make an `accelerate.Accelerator` for this process, as `accelerate launch` configured it: alone, DDP or DeepSpeed.

    Raises:
        RecipeError: several processes were launched that do not see each other, or DeepSpeed was silently left out; the
            environment speaks of processes that nobody launched; or a tracker is not installed.
        TrainingError: DeepSpeed's extension does not compile.
    """
    require_launch()
    require_installed(options.trackers)
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        give_back()
    wants_deepspeed = deepspeed_prepared(on_cpu)
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if on_cpu and not wants_deepspeed and expected > 1:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # without it no process would talk to another, without a word
    from accelerate import Accelerator, InitProcessGroupKwargs

    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # a warning at every save of tied weights
    # processes wait for the slowest of them, in rollouts and evaluations longer than the minutes that libraries allow
    patience = InitProcessGroupKwargs(backend="gloo" if on_cpu else "nccl", timeout=PATIENCE)
    made = Accelerator(
        mixed_precision="bf16" if options.bf16 else "no",
        kwargs_handlers=[patience] if expected > 1 else [],
        log_with=options.trackers or None,
        project_dir=logging_dir,
    )
    if made.num_processes != expected or (expected > 1 and made.distributed_type.value == "NO"):
        raise RecipeError(
            f"{expected} processes were launched but they do not see each other: {made.num_processes} of type "
            f"{made.distributed_type.value}; launch with recipes/accelerate/ddp.yaml, zero2.yaml or zero3.yaml"
        )
    if wants_deepspeed and made.state.deepspeed_plugin is None:
        raise RecipeError(
            "the accelerate config asks for DeepSpeed but it is off; unset ACCELERATE_USE_CPU and use_cpu"
        )
    if made.state.deepspeed_plugin is not None:
        config = made.state.deepspeed_plugin.deepspeed_config
        # micro-batches are filled by tokens and their number varies: we decide when to step
        config["train_micro_batch_size_per_gpu"] = 1
        config["gradient_accumulation_steps"] = 1
        config["gradient_clipping"] = options.max_grad_norm
        config["zero_allow_untested_optimizer"] = True
    return made


def zero_stage(accelerator: Any) -> int | None:
    """Stage of DeepSpeed, 0 to 3; None without DeepSpeed."""
    plugin = accelerator.state.deepspeed_plugin
    return None if plugin is None else int(plugin.zero_stage)


def frozen(net: nn.Module, accelerator: Any, *, bf16: bool) -> Any:
    """Put a network that never learns where it computes: sharded under ZeRO-3, else whole on the device."""
    net.eval()
    if zero_stage(accelerator) != 3:
        return net.to(accelerator.device)
    import deepspeed

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3},
        "bf16": {"enabled": bf16},
    }
    return deepspeed.initialize(model=net, config=config)[0]


def gather(items: list[T], world: int) -> list[T]:
    """Gather the items of all ranks, in the order of the ranks, on every rank."""
    if world == 1:
        return items
    shares: list[Any] = [None] * world
    torch.distributed.all_gather_object(shares, pack(items))
    shares.reverse()
    gathered: list[T] = []
    while shares:  # a share that is read is given up
        gathered += unpack(shares.pop())
    return gathered


def largest(number: int, accelerator: Any) -> int:
    """The largest of the numbers of all ranks, on every rank. Collective."""
    if accelerator.num_processes == 1:
        return number
    held = torch.tensor([number], device=accelerator.device)
    torch.distributed.all_reduce(held, op=torch.distributed.ReduceOp.MAX)
    return int(held.item())


def gathered_parameters(
    parameters: Sequence[nn.Parameter], sharded: bool, *, modified: bool = False
) -> AbstractContextManager[Any]:
    """Gather parameters from ZeRO-3's shards while the context lasts; collective there.

    With `modified` every rank may write to them, the same values on each.
    """
    if not sharded:
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
        list(parameters), modifier_rank=0 if modified else None
    )
    return gathered
