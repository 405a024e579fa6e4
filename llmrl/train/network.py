"""The policy as a network: a Hugging Face causal model whose forward pass scores the chosen tokens and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmrl.errors import CheckpointError
from llmrl.ops.logprobs import predicting, token_logprobs
from llmrl.recipe import ModelOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenScorer(nn.Module):
    """Log-probabilities and entropy of the action tokens of a batch; this is what DeepSpeed and DDP wrap."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: nn.Module = model

    def forward(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        action_mask: Tensor,
        sample_ids: Tensor,
        temperature: float,
        chunks: int,
    ) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities at `temperature` and entropies, float32; 0.0 where nothing was chosen.

        `chunks` is how many pieces the vocabulary logits are computed in, the same on every rank.
        """
        plain: Any = plain_model(self.model)
        # Padding stands behind the real tokens, where causal attention never looks: no mask is needed.
        states = plain.get_decoder()(input_ids=token_ids, position_ids=position_ids, use_cache=False).last_hidden_state
        chosen = predicting(action_mask, sample_ids)  # perhaps nothing; every rank still runs each collective
        logprobs, entropy = token_logprobs(
            chosen.predicting(states),
            plain.get_output_embeddings(),
            chosen.tokens(token_ids),
            temperature,
            chunks=chunks,
        )
        return chosen.scatter(logprobs), chosen.scatter(entropy)


def plain_model(model: nn.Module) -> Any:
    """The Hugging Face model below PEFT's, with its adapters in place."""
    below: Any = getattr(model, "get_base_model", None)
    return below() if below is not None else model


def load(options: ModelOptions, *, trained: bool = True, checkpointing: bool = False) -> PreTrainedModel:
    """The policy from a folder or the hub, in `options.dtype`, dropout off; with LoRA adapters where asked.

    Raises:
        CheckpointError: no such model, or not a causal language model.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(options.policy)
    if (folder.is_absolute() or options.policy.startswith(".")) and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"model.policy: {folder} has no config.json; expected a Hugging Face model folder or a hub name"
        )
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            options.policy,
            revision=options.model_revision or "main",
            dtype=getattr(torch, options.dtype),
            attn_implementation=options.attn_implementation,
            trust_remote_code=options.trust_remote_code,
        )
    except Exception as error:  # configurations, weights and remote code fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"model.policy: {options.policy} does not load: {type(error).__name__}: {reason}; expected the folder or "
            "the hub name of a causal language model"
        ) from error
    _still(model)
    if checkpointing and trained:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.use_peft and trained:
        model = _adapted(model, options)
    return model if trained else model.requires_grad_(False)


def packs(model: nn.Module) -> bool:
    """Whether the attention kernel keeps packed rows apart without a mask of (T, T)."""
    return "flash" in (plain_model(model).config._attn_implementation or "")


def _still(model: nn.Module) -> None:
    """Dropout off, in training mode too: the policy that learns must be the one that sampled."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "attention_dropout"):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010 (a float where nn.Module declares tensors)


def _adapted(model: PreTrainedModel, options: ModelOptions) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    targets = options.lora_target_modules
    config = LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    if model.is_gradient_checkpointing:
        model.enable_input_require_grads()
    adapted: PreTrainedModel = get_peft_model(model, config)
    return adapted
