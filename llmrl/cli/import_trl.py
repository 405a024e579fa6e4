"""Convert a flat file of TRL's or open-r1's GRPO to a recipe; keys without a counterpart are refused, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

from llmrl.errors import RecipeError
from llmrl.plugins import construct, find
from llmrl.recipe import parse, tree

# Defaults of TRL 1.16; written out, for some of our own defaults are others.
DEFAULTS: Mapping[str, Any] = {
    "learning_rate": 1e-6,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_generations": 8,
    "max_completion_length": 512,
    "temperature": 1.0,
    "seed": 42,
    "gradient_checkpointing": True,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_iterations": 1,
    "loss_type": "dapo",
    "vllm_importance_sampling_mode": "sequence_mask",
    "vllm_importance_sampling_clip_max": 3.0,
    "save_steps": 500,
    "bf16": True,
}
SAME: Mapping[str, Sequence[str]] = {  # keys that are called alike, by section
    "model": (
        *("model_revision", "attn_implementation", "trust_remote_code", "system_prompt", "chat_template_kwargs"),
        *("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
        *("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
    ),
    "algorithm": (
        *("epsilon", "epsilon_high", "delta", "beta", "scale_rewards", "loss_type", "importance_sampling_level"),
        *("mask_truncated_completions", "entropy_coef", "top_entropy_quantile", "off_policy_mask_threshold"),
        "num_iterations",
    ),
    "rollout": (
        *("num_generations", "max_completion_length", "max_prompt_length"),
        *("temperature", "top_p", "top_k", "min_p"),
    ),
    "train": (
        *("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "bf16", "seed"),
        *("gradient_checkpointing", "save_total_limit", "output_dir", "run_name"),
    ),
}
USED = {  # keys that are made into others below
    *("model_name_or_path", "torch_dtype", "dtype", "dataset_name", "dataset_config", "dataset_train_split"),
    *(
        "dataset_prompt_column",
        "reward_funcs",
        "reward_weights",
        "use_vllm",
        "vllm_mode",
        "vllm_gpu_memory_utilization",
    ),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "generation_batch_size", "steps_per_generation"),
    *(
        "max_steps",
        "num_train_epochs",
        "warmup_steps",
        "warmup_ratio",
        "lr_scheduler_type",
        "save_strategy",
        "save_steps",
        "report_to",
    ),
    *("vllm_importance_sampling_mode", "vllm_importance_sampling_clip_max", "vllm_importance_sampling_correction"),
}
SILENT = (  # prefixes of keys without an effect on learning
    *("hub_", "push_to_hub", "log_", "logging_", "wandb_", "eval_", "do_", "per_device_eval_", "dataset_test_split"),
    *(
        "overwrite_",
        "gradient_checkpointing_kwargs",
        "callbacks",
        "benchmarks",
        "dataloader_",
        "num_completions_to_print",
    ),
    *("ddp_", "disable_tqdm", "vllm_max_model_length", "vllm_enable_sleep_mode", "vllm_device"),
    *("parallel_code_exec_per_proc", "code_provider", "num_processes", "use_liger_kernel", "resume_from_checkpoint"),
)
REASONS: Mapping[str, str] = {
    "chat_template": "put it into the model's folder, as chat_template.jinja",
    "dataset_mixture": "name the sources in `data: {name: mixture}`",
    "dataset_configs": "give one, as dataset_config",
    "repetition_penalty": "it samples from another distribution than the policy's",
    "multi_objective_aggregation": "rewards are summed, then normalised",
    "load_in_4bit": "trained weights are float32 or bfloat16",
    "load_in_8bit": "trained weights are float32 or bfloat16",
    "deepspeed": "give the launcher a file of recipes/accelerate",
    "fsdp": "give the launcher a file of recipes/accelerate",
    "use_bias_correction_kl": "the divergence is k3 without weights",
    "optim": "the optimiser is AdamW",
    "lr_scheduler_kwargs": "schedules are constant, linear and cosine, to 0",
    "vllm_tensor_parallel_size": "the engine beside a trainer has one device; `engine: {name: server}` has the option",
    "vllm_server_host": "write `engine: {name: server, urls: [...]}` yourself",
    "vllm_server_base_url": "write `engine: {name: server, urls: [...]}` yourself",
}
JUDGING = {"accuracy", "length", "cosine", "accuracy_reward", "reasoning_accuracy_reward"}
TRL = {name: f"trl.rewards:{name}" for name in ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward")}


@dataclass(frozen=True)
class Imported:
    """A recipe's plain values, and the keys of the file that are ignored."""

    values: dict[str, dict[str, Any]]
    left_out: list[str]


def read(path: str | Path, processes: int, overrides: Sequence[str] = ()) -> Imported:
    """Convert a flat file, launched with so many processes, to a recipe.

    Args:
        path: YAML of `GRPOConfig`, with the keys of TRL's or open-r1's scripts.
        processes: number that the file is launched with; it decides how many prompts a step has.
        overrides: `key=value`, with the file's own keys.
    Raises:
        RecipeError: a key or a value has no counterpart; with the reason.
    """
    flat = tree(path, overrides)
    rewards = {field.name for field in fields(find("reward", "open_r1"))}
    known = USED.union(rewards, *SAME.values())
    left_out = [key for key in flat if key not in known and key.startswith(SILENT)]
    for key, value in flat.items():
        if key not in known and key not in left_out and value is not None and value is not False:
            raise _refused(path, key, value, REASONS.get(key, "llmrl has nothing of that kind"))
    given = {**DEFAULTS, **{key: value for key, value in flat.items() if value is not None}}
    values = {section: {key: given[key] for key in keys if key in given} for section, keys in SAME.items()}
    values |= {"data": _data(path, given), "reward": _reward(path, given, rewards)}
    _model(path, given, values)
    _steps(path, given, values, processes)
    order = ("model", "data", "reward", "algorithm", "engine", "rollout", "train")
    values = {section: values[section] for section in order}
    parse(values, str(path))  # what TRL takes may still not fit
    return Imported(values, left_out)


def _refused(path: str | Path, key: str, value: Any, why: str) -> RecipeError:
    return RecipeError(f"{path}: {key}: {value!r:.60} has no counterpart: {why}; take it out, or set {key}=null")


def _data(path: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    if "dataset_name" not in given:
        raise RecipeError(f"{path}: dataset_name: missing; expected a name on the hub")
    names = {
        "dataset_config": "dataset_config",
        "dataset_train_split": "split",
        "dataset_prompt_column": "prompt_column",
    }
    options = {ours: given[theirs] for theirs, ours in names.items() if theirs in given}
    if not JUDGING.isdisjoint(given.get("reward_funcs") or ()):
        options["answer_column"] = "solution"  # read by those functions
    return {"name": "jsonl", "dataset_name": given["dataset_name"], **options}


def _reward(path: str | Path, given: Mapping[str, Any], options: set[str]) -> dict[str, Any]:
    functions = given.get("reward_funcs")
    if not isinstance(functions, list) or not functions:
        raise RecipeError(
            f"{path}: reward_funcs: {functions!r}; expected a list of names, for scripts' defaults differ"
        )
    if not any("." in name or name in TRL for name in functions):
        return {"name": "open_r1", **{key: given[key] for key in given if key in options}}
    weights = given.get("reward_weights") or [1.0] * len(functions)
    if len(weights) != len(functions):
        raise RecipeError(f"{path}: reward_weights: {weights}; expected one for each of {len(functions)} reward_funcs")
    parts = {}
    for name, weight in zip(functions, weights, strict=True):
        if name not in TRL and "." not in name:
            raise _refused(
                path, "reward_funcs", name, "it stands beside functions of TRL or your own; name it in a mix"
            )
        parts[TRL.get(name, ":".join(name.rsplit(".", 1)))] = weight
    return {"name": "mix", "parts": parts}


def _model(path: str | Path, given: Mapping[str, Any], values: dict[str, dict[str, Any]]) -> None:
    """Convert the keys of the policy, the engine, and the correction between the two."""
    dtype = given.get("dtype", given.get("torch_dtype", "float32"))
    if dtype not in ("float32", "bfloat16"):
        raise _refused(path, "dtype", dtype, "trained weights are float32 or bfloat16")
    if "model_name_or_path" not in given:
        raise RecipeError(f"{path}: model_name_or_path: missing")
    if given.get("use_peft") and "lora_target_modules" not in given:
        raise RecipeError(f"{path}: lora_target_modules: missing; there it depends on the model, here it is all-linear")
    if given.get("use_peft"):
        values["model"] = {"lora_dropout": 0.05, **values["model"]}  # TRL's own
    values["model"] = {"policy": given["model_name_or_path"], "dtype": dtype, **values["model"]}
    if given.get("vllm_mode", "colocate") != "colocate":
        raise _refused(path, "vllm_mode", given["vllm_mode"], REASONS["vllm_server_host"])
    values["engine"] = {"name": "vllm" if given.get("use_vllm") else "hf"}
    if given.get("use_vllm") and "vllm_gpu_memory_utilization" in given:
        values["engine"]["gpu_memory_utilization"] = given["vllm_gpu_memory_utilization"]
    corrected = given.get("use_vllm") and given.get("vllm_importance_sampling_correction", True)
    correction = {"importance_sampling_correction": given["vllm_importance_sampling_mode"] if corrected else "none"}
    if corrected:
        correction["importance_sampling_cap"] = given["vllm_importance_sampling_clip_max"]
    values["algorithm"] = {"name": "grpo", **values["algorithm"], **correction}
    if given["loss_type"] == "dr_grpo":
        values["algorithm"]["max_completion_length"] = given["max_completion_length"]


@dataclass(frozen=True)
class StepCounts:
    """Sizes that determine the numbers of completions, updates and steps."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    num_generations: int
    num_iterations: int
    max_steps: int = -1
    num_train_epochs: float = 3.0  # where max_steps is below 1, as in TRL
    generation_batch_size: int | None = None
    steps_per_generation: int | None = None
    warmup_steps: float = 0.0  # below 1 a share
    warmup_ratio: float = 0.0
    save_steps: float = 500.0  # below 1 a share

    def __post_init__(self) -> None:
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations", "num_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")

    @property
    def by_steps(self) -> bool:
        """True if steps are counted; else epochs are."""
        return self.max_steps >= 1

    def updates(self, share_or_count: float) -> float:
        """A count of updates; below 1 a share of all, which becomes a count where `max_steps` is one."""
        return ceil(share_or_count * self.max_steps) if share_or_count < 1 and self.by_steps else share_or_count


def _steps(path: str | Path, given: Mapping[str, Any], values: dict[str, dict[str, Any]], processes: int) -> None:
    """Convert batches and counts: TRL's step is an update, ours is a rollout with all updates that follow it."""
    counts: StepCounts = construct(
        StepCounts, {f.name: given[f.name] for f in fields(StepCounts) if f.name in given}, f"{path}:"
    )
    accumulated = counts.gradient_accumulation_steps
    update = counts.per_device_train_batch_size * processes * accumulated  # completions
    played = counts.generation_batch_size or update * (counts.steps_per_generation or accumulated) // accumulated
    prompts, minibatches = played // counts.num_generations, played // max(update, 1)
    if processes < 1 or prompts * counts.num_generations != played or minibatches * update != played:
        raise RecipeError(
            f"{path}: {played} completions are played at a time, an update takes {update}, a group has "
            f"{counts.num_generations}; expected multiples; is --processes {processes} what it was launched with?"
        )
    each = minibatches * counts.num_iterations
    if counts.by_steps and counts.max_steps % each:
        raise RecipeError(
            f"{path}: max_steps {counts.max_steps}: expected a multiple of {each}, the updates of a rollout"
        )
    schedule = {"constant_with_warmup": "constant"}.get(given["lr_scheduler_type"], given["lr_scheduler_type"])
    if schedule not in ("constant", "linear", "cosine"):
        raise _refused(path, "lr_scheduler_type", schedule, REASONS["lr_scheduler_kwargs"])
    warm = counts.updates(counts.warmup_steps or counts.warmup_ratio)
    saved = counts.updates(counts.save_steps) if given.get("save_strategy", "steps") == "steps" else 0
    if 0 < saved < 1:
        raise RecipeError(
            f"{path}: save_steps {saved:g}: a share of the updates, whose number follows from the data; expected a "
            "number of updates, or add max_steps=... after the file"
        )
    reports = given.get("report_to", "none")
    values["rollout"]["prompts_per_step"] = prompts
    values["algorithm"]["minibatches"] = minibatches
    if counts.by_steps:
        values["train"]["max_steps"] = counts.max_steps // each
    else:
        values["train"]["num_train_epochs"] = counts.num_train_epochs
    values["train"]["warmup_steps"] = warm if 0 < warm < 1 else ceil(warm / each)
    values["train"] |= {"lr_scheduler_type": schedule, "save_steps": ceil(saved / each)}
    values["train"]["report_to"] = reports if isinstance(reports, str) else ", ".join(reports) or "none"
