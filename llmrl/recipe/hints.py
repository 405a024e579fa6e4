"""Keys that are somewhere else: without their section, of another plug-in, or called as other toolkits call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from llmrl.errors import RecipeError
from llmrl.plugins import find, names
from llmrl.recipe.options import BY_DEFAULT, PLUGINS, Sections

_OTHERS: Mapping[str, str] = {
    "lr": "train.learning_rate",
    "model_name_or_path": "model.policy",
    "policy": "model.policy",
    "dataset_name": "data='{name: hub, path: ...}'",
    "reward_funcs": "reward='{name: mix, parts: {math_verify: 1.0, format: 0.1}}'",
    "per_device_train_batch_size": "rollout.prompts_per_step, problems of a step over all processes, and "
    "train.tokens_per_device, which bounds memory and changes no result",
    "gradient_accumulation_steps": "algorithm.minibatches, optimiser steps of a rollout",
    "generation_batch_size": "rollout.prompts_per_step, times rollout.num_generations",
    "max_new_tokens": "rollout.max_completion_length",
    "max_length": "rollout.max_prompt_length and rollout.max_completion_length",
    "kl_coef": "algorithm.beta",
    "warmup_ratio": "train.warmup_steps",
    "eval_steps": "eval.every",
    "use_vllm": "engine.name=vllm",
    "vllm_gpu_memory_utilization": "engine.gpu_memory_utilization",
}
"""Keys of TRL, and others that are often tried, by what they are called here."""


def require_placed(values: Mapping[str, Any], where: str) -> None:
    """Refuse a key that stands in the wrong place, with the right one.

    Raises:
        RecipeError: the first such key. What is unknown everywhere is left to whoever builds the section.
    """
    known = _known(values)
    for key, value in values.items():
        if key not in known:
            _refuse(key, key, value, known, where)
            continue
        if key not in PLUGINS and not isinstance(value, Mapping) and value is not None:
            first = "policy" if key == "model" else next(iter(known[key]), "")
            raise RecipeError(
                f"{where}: {key}: expected a section with keys, found {value!r:.80}; such as {key}.{first}={value}"
            )
        for inner, given in value.items() if isinstance(value, Mapping) else ():
            if (inner == "name" and key in PLUGINS) or known[key] is None or inner in known[key]:
                continue
            if key in PLUGINS and (owners := list(_owners(key, inner))):
                raise RecipeError(
                    f"{where}: {key}.{inner}: an option of {', '.join(owners)}, and {key} is {value.get('name')} here; "
                    f"leave it out: {key}='{{name: {value.get('name')}}}' replaces the whole section"
                )
            _refuse(f"{key}.{inner}", inner, given, known, where)


def _refuse(place: str, key: str, value: Any, known: Mapping[str, Any], where: str) -> None:
    """Refuse a key that another section has, or that has another name here."""
    homes = [section for section, keys in known.items() if keys and key in keys]
    other = _OTHERS.get(str(key))
    if not homes and other is None:
        return
    homes.sort(key=lambda section: section not in ("train", "rollout"))  # the one that is meant first
    shown = (
        f"={str(value).lower() if isinstance(value, bool) else value}" if isinstance(value, int | float | str) else ""
    )
    expected = " or ".join(f"{section}.{key}{shown}" for section in homes) or other
    raise RecipeError(f"{where}: {place}: unknown key; expected {expected}")


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of each section, of the plug-in that it names; None where that is not known."""
    hints = get_type_hints(Sections)
    known: dict[str, Any] = {}
    for entry in fields(Sections):
        section = entry.name
        if section in PLUGINS:
            known[section] = _options(section, _name(values.get(section, BY_DEFAULT.get(section))))
        else:
            known[section] = [inner.name for inner in fields(hints[section]) if inner.init]
    return known


def _name(spec: Any) -> Any:
    return spec.get("name") if isinstance(spec, Mapping) else spec


def _options(kind: Any, name: Any) -> list[str] | None:
    try:
        plugin = find(kind, name)
    except Exception:  # unknown, misspelt, or not importable: said when it is built
        return None
    return [entry.name for entry in fields(plugin) if entry.init] if is_dataclass(plugin) else None


def _owners(kind: Any, key: str) -> Iterator[str]:
    """The plug-ins of a kind that have an option of that name."""
    for name in names(kind):
        if key in (_options(kind, name) or ()):
            yield name
