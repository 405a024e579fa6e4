"""LoRA: the configuration of adapters, and the refusal of targets that a model does not have or shares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from llmrl.errors import RecipeError
from llmrl.plugins import did_you_mean

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

_KEY = "model.lora_target_modules"
_ALL = "all-linear"


def lora(options: Any, **more: Any) -> LoraConfig:
    """PEFT's configuration from the options that models and reward models share."""
    from peft import LoraConfig

    targets = options.lora_target_modules
    return LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        **more,
    )


def adapted(model: PreTrainedModel, options: Any, **more: Any) -> PreTrainedModel:
    """The model with adapters on the modules that `options.lora_target_modules` names.

    Args:
        more: further arguments of PEFT's configuration.
    Raises:
        RecipeError: a target that the model does not have, that shares its weights with another part, or that LoRA
            cannot adapt.
    """
    from peft import get_peft_model

    chosen = _chosen(model, options.lora_target_modules)
    if shared := _shared(model, chosen):
        raise RecipeError(
            f"{_KEY} {', '.join(shared)}: {type(model).__name__} has the same weights at both ends "
            "(tie_word_embeddings), and an adapter on one end would part them; expected targets between the ends, "
            f"such as {_ALL}"
        )
    if model.is_gradient_checkpointing:
        model.enable_input_require_grads()
    try:
        made: PreTrainedModel = get_peft_model(model, lora(options, **more))
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecipeError(f"{_KEY} {_told(options.lora_target_modules)}: PEFT refuses: {reason}") from error
    return made


def _chosen(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """Paths of the modules that targets name, as PEFT reads them: ends of paths, or one pattern of whole paths.

    Raises:
        RecipeError: one of them names nothing.
    """
    paths = [path for path, _ in model.named_modules() if path]
    if targets == _ALL:
        return []  # the ends are not among them
    found: list[str] = []
    for target in [targets] if isinstance(targets, str) else targets:
        try:
            named = [path for path in paths if _names(target, path, pattern=isinstance(targets, str))]
        except re.error as error:
            raise RecipeError(f"{_KEY} {target!r}: no regular expression: {error}") from None
        if not named:
            known = sorted({path.rpartition(".")[2] for path, module in model.named_modules() if _weighs(module)})
            raise RecipeError(
                f"{_KEY}: {type(model).__name__} has no module {target!r}{did_you_mean(target, known)}; "
                f"known: {', '.join(known)}, and {_ALL}"
            )
        found += named
    if not found:
        raise RecipeError(f"{_KEY}: names no module; expected {_ALL}, or names such as q_proj")
    return found


def _names(target: str, path: str, *, pattern: bool) -> bool:
    if pattern:
        return re.fullmatch(target, path) is not None
    return path == target or path.endswith(f".{target}")


def _weighs(module: nn.Module) -> bool:
    """True for a module of one matrix, which LoRA can adapt."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and len(getattr(weight, "ds_shape", weight.shape)) == 2  # ZeRO-3's own


def _shared(model: PreTrainedModel, chosen: Sequence[str]) -> list[str]:
    """Paths among the chosen of modules whose weights are also another module's."""
    weights: dict[int, int] = {}
    for module in model.modules():
        if _weighs(module):
            weights[id(module.weight)] = weights.get(id(module.weight), 0) + 1
    modules = {path: model.get_submodule(path) for path in chosen}
    return sorted(p for p, m in modules.items() if _weighs(m) and weights[id(m.weight)] > 1)


def _told(targets: str | Sequence[str]) -> str:
    return targets if isinstance(targets, str) else ", ".join(targets)
