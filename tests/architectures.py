"""Small models of many architectures, and a run of one step that must hold from the first token to the export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from llmrl.aio import wait
from llmrl.critics.language_model import pretrained
from llmrl.recipe import parse
from llmrl.tiny import make_tokenizer
from llmrl.train.loop import train
from llmrl.train.run import Run

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,  # vLLM on a CPU takes multiples of 32
    "max_position_embeddings": 512,
    "bos_token_id": None,
}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("qwen2", "qwen3", "llama", "mistral", "gemma", "gemma3_text", "phi", "phi3", "olmo2")},
    **{name: {} for name in ("gpt_neox", "gpt2", "falcon", "stablelm", "opt", "bloom", "starcoder2", "xglm", "mpt")},
    "gemma2": {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 32},
    "cohere": {"logit_scale": 2.0},
    "granite": {"logits_scaling": 4.0},
    "nanochat": {"final_logit_softcapping": 2.0},
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS,
}
"""Options that make a small model, and make its head show where it is more than a product."""


class Agreement(NamedTuple):
    """Differences that a run of one step has left, in nats or logits."""

    sync: float  # mean gap of a probe after the step, engine against trainer
    sampled: float  # mean gap of what was sampled, engine against trainer
    exported: float  # largest gap of logits, the exported model against the trained one
    served: float  # mean gap of a probe, an engine on the exported folder against the exported model


def made(kind: str, folder: Path) -> Path:
    """Write a folder with a small model of an architecture and the tiny tokenizer."""
    transformers.logging.set_verbosity_error()
    tokenizer = make_tokenizer()
    maker: Any = CONFIG_MAPPING[kind]
    wanted = SMALL | ARCHITECTURES[kind] | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    wanted["pad_token_id"] = tokenizer.pad_token_id
    defaults = maker()
    known = set(defaults.to_dict()) | set(defaults.attribute_map)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(maker(**{k: v for k, v in wanted.items() if k in known}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3 if weight.dim() > 1 else 1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def agreement(kind: str, engine: str, folder: Path) -> Agreement:
    """Train a small model by one step, with prompts of several lengths, export it, and read it again."""
    recipe = parse(
        {
            "model": {"policy": str(made(kind, folder / kind))},
            "data": {"name": "arithmetic", "low": 0, "high": 300},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo", "beta": 0.01},
            "engine": {"name": engine},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 4,
                "max_completion_length": 8,
                "max_prompt_length": 48,
                "reward_workers": 1,
            },
            "train": {"max_steps": 1, "learning_rate": 1e-3, "output_dir": str(folder), "report_to": "none"},
        }
    )
    ids = list(range(10, 60))
    with Run(recipe, name="run") as run:
        train(run)
        with torch.no_grad():
            trained = run.learners.policy.net.model.eval()(input_ids=torch.tensor([ids])).logits[0]
    step = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
    final = pretrained(AutoModelForCausalLM, str(run.folder / "final"))
    with torch.no_grad():
        logits = final(input_ids=torch.tensor([ids])).logits[0]
    running = recipe.engine.start(
        str(run.folder / "final"), dtype="float32", seed=0, max_model_len=128, stop_token_ids=[1]
    )
    try:
        scores = wait(running.score(ids))
    finally:
        running.close()
    own = logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    return Agreement(
        sync=step["sync/probe_logp_gap"],
        sampled=step["sampling/sampling_logp_difference/mean"],
        exported=float((logits - trained).abs().max()),
        served=sum(abs(a - b) for a, b in zip(own, scores, strict=True)) / len(scores),
    )


def require_agreement(kind: str, engine: str, folder: Path) -> None:
    """Print the differences as a row of a table, and refuse large ones."""
    found = agreement(kind, engine, folder)
    print(f"| {kind} | {engine} | " + " | ".join(f"{value:.1e}" for value in found) + " |")
    assert found.sync < 5e-6, kind
    assert found.sampled < 5e-5, f"{kind}: prompts of several lengths are a left-padded batch"
    assert found.exported < 1e-3, kind
    assert found.served < 5e-6, kind
