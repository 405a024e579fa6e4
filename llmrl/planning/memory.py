"""Memory of a run by part: on this machine by a trace, and for each rank of several GPUs by ZeRO stage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llmrl.columns import filled_by
from llmrl.critics.language_model import LanguageModel, decoder_of, head_of, vocabulary_of
from llmrl.planning.batches import rows_of_update
from llmrl.planning.trace import MicroBatchShape, Traced, trace
from llmrl.plugins import name_of
from llmrl.protocols import Modelled
from llmrl.recipe import Recipe
from llmrl.recipe.options import option
from llmrl.train.adapters import adapted

STAGES = (0, 2, 3)
"""Stages of ZeRO that are planned for; 0 is data parallel without DeepSpeed."""
VLLM_SEATS = 256  # sequences that vLLM runs at once where nothing is set, as llmrl leaves it
BYTES = {"float32": 4, "bfloat16": 2}
PARTS = ("weights", "gradients", "optimiser", "activations", "logits", "reference", "critic", "engine", "kv cache")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Facts of a run's models on which its memory depends."""

    parameters: int
    trained: int
    policy: Traced
    critic: Traced | None  # of each, if the algorithm has models of numbers
    critics: int
    reference: bool
    kv_bytes: int  # of a token, in the engine's dtype
    positions: int | None  # longest sequence that the model was made for


def facts_of(recipe: Recipe, config: Any, shape: MicroBatchShape, micro_batches: int) -> ModelFacts:
    """Trace the recipe's models, which are made of their configuration; no weights are loaded."""
    needs = recipe.algorithm.needs()
    asked: dict[str, Any] = {
        "chunk_mb": recipe.train.logits_chunk_mb,
        "autocast": recipe.train.bf16,
        "micro_batches": micro_batches,
    }
    policy = trace(lambda: _policy(recipe, config), shape, vocabulary=vocabulary_of(config), **asked)
    models = recipe.algorithm.models() if isinstance(recipe.algorithm, Modelled) else {}
    named = [spec for spec in models.values() if spec.trains] or list(models.values())
    critics = len(named) if models else int(bool(needs & filled_by("critic").keys()))
    critic = trace(lambda: _critic(recipe, config), shape, vocabulary=0, **asked) if critics else None
    with torch.device("meta"):
        model, _, _ = _policy(recipe, config)
    refers = bool(needs & filled_by("reference").keys() - recipe.source.fills()) and not recipe.model.use_peft
    text = config.get_text_config()
    return ModelFacts(
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        policy=policy,
        critic=critic,
        critics=critics,
        reference=refers,
        kv_bytes=_kv_bytes(text) * BYTES[recipe.compute_dtype],
        positions=getattr(text, "max_position_embeddings", None),
    )


def here(recipe: Recipe, facts: ModelFacts) -> dict[str, int]:
    """Bytes of each part in this machine's process, at the moment at which most is held: a backward pass."""
    policy, critic = facts.policy, facts.critic
    parts = {
        "weights": policy.weights,
        "gradients": policy.gradients,
        "optimiser": policy.optimiser,
        "activations": policy.activations,
        "logits": policy.logits,
        "reference": facts.parameters * _reference_bytes(recipe) if facts.reference else 0,
        "critic": 0,
        "engine": 0,
        "kv cache": 0,
    }
    if critic is not None:  # while one learns, the other holds weights and optimiser
        standing = critic.weights + critic.optimiser
        learning = max(0, critic.peak - (policy.peak - policy.weights - policy.optimiser) - standing)
        parts["critic"] = facts.critics * standing + learning
    engine = name_of("engine", recipe.engine)
    if recipe.source.plays or recipe.evaluates:
        if engine == "hf":
            parts["engine"] = facts.parameters * BYTES[recipe.compute_dtype]
        elif engine == "vllm":
            parts["engine"] = facts.parameters * BYTES[recipe.compute_dtype]
            parts["kv cache"] = _vllm_cache(recipe)
    return parts


def generating(recipe: Recipe, facts: ModelFacts, length: int) -> int:
    """Bytes of a step's generation by engine hf beside weights, optimisers and the engine's copy: keys and values."""
    return facts.kv_bytes * seats(recipe, recipe.rollout.episodes_per_step) * length


def seats(recipe: Recipe, episodes: int) -> int:
    """Sequences of so many episodes that an engine runs at once."""
    return min(option(recipe.engine, "max_num_seqs") or VLLM_SEATS, episodes)


def by_rank(recipe: Recipe, facts: ModelFacts, gpus: int, gpu_memory: float, length: int, stage: int) -> dict[str, int]:
    """Bytes of each part on each of several GPUs, under a stage of ZeRO.

    Args:
        gpu_memory: GiB of each.
        length: tokens of an episode.
        stage: 0: data parallel, whose buckets are a second copy of the gradients.
    """
    parts = here(recipe, facts)
    bf16 = recipe.train.bf16 or recipe.model.dtype == "bfloat16"
    sharded = {2: ("gradients", "optimiser"), 3: ("weights", "gradients", "optimiser", "reference", "critic")}
    if stage:
        low = 2 if recipe.train.bf16 else BYTES[recipe.model.dtype]
        parts["weights"] = low * facts.parameters
        parts["gradients"] = low * facts.trained
        parts["optimiser"] = 12 * facts.trained  # a float32 copy of the weights, and Adam's two moments
        if facts.critic is not None:
            numbers = facts.critics * facts.critic.weights // BYTES[recipe.model.dtype]
            parts["critic"] = numbers * low + (-(-numbers * (low + 12) // gpus) if stage == 2 else numbers * (low + 12))
    elif gpus > 1:
        parts["gradients"] *= 2
    for name in sharded.get(stage, ()):
        parts[name] = -(-parts[name] // gpus)
    engine = name_of("engine", recipe.engine)
    if parts["engine"]:
        parts["engine"] = facts.parameters * (2 if bf16 else 4)
        parts["kv cache"] = generating(recipe, facts, length)
    if engine == "vllm" and option(recipe.engine, "enable_sleep_mode"):
        parts["engine"] = parts["kv cache"] = 0  # it sleeps while the trainer learns
    elif engine == "vllm":
        share = option(recipe.engine, "gpu_memory_utilization")
        parts["kv cache"] = max(0, int(share * gpu_memory * 2**30) - parts["engine"])
    elif engine == "server":
        parts["engine"] = parts["kv cache"] = 0  # of other GPUs
    return parts


def total(parts: Mapping[str, int]) -> int:
    """Bytes of all parts."""
    return sum(parts.values())


def _policy(recipe: Recipe, config: Any) -> tuple[Any, Any, Any]:
    """The policy, its decoder and its output layer."""
    options = recipe.model
    model: Any = LanguageModel.from_config(
        config,
        dtype=getattr(torch, options.dtype),
        trust_remote_code=options.trust_remote_code,
        attn_implementation=options.attn_implementation,
    )
    if recipe.train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    plain = model
    if options.use_peft:
        model = adapted(model, options, task_type="CAUSAL_LM")
    return model, decoder_of(plain), head_of(plain)


def _critic(recipe: Recipe, config: Any) -> tuple[Any, Any, Any]:
    """A decoder under a layer of one number."""
    from transformers import AutoModel

    decoder: Any = AutoModel.from_config(
        config.get_text_config(), dtype=getattr(torch, recipe.model.dtype), trust_remote_code=False
    )
    if recipe.train.gradient_checkpointing:
        decoder.gradient_checkpointing_enable({"use_reentrant": False})
    head = torch.nn.Linear(config.get_text_config().hidden_size, 1)
    return torch.nn.ModuleList([decoder, head]), decoder, head


def _reference_bytes(recipe: Recipe) -> int:
    return 4 if recipe.model.sync_ref_model else BYTES[recipe.model.dtype]


def _kv_bytes(text: Any) -> int:
    """Numbers that keys and values of a token have."""
    heads = getattr(text, "num_attention_heads", 1)
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * getattr(text, "num_hidden_layers", 1) * kv_heads * width)


def _vllm_cache(recipe: Recipe) -> int:
    """Bytes that vLLM takes for its cache on a CPU: its variable, where that is set, is stronger than the option."""
    gibibytes = os.environ.get("VLLM_CPU_KVCACHE_SPACE") or option(recipe.engine, "cpu_kvcache_space")
    return int(float(gibibytes) * 2**30)


def shape_of(recipe: Recipe, length: int, actions: int, *, on_gpu: bool) -> MicroBatchShape:
    """The largest micro-batch: as many of the longest rows as `train.tokens_per_device` holds, padding included."""
    budget = recipe.train.tokens_per_device or (16384 if on_gpu else 2048)
    rows = max(1, min(budget // length, rows_of_update(recipe)))
    return MicroBatchShape(rows=rows, length=length, actions=min(actions, length - 1))
