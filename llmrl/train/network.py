"""Hugging Face models as networks of a policy, which scores the chosen tokens, and of models of numbers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmrl.critics.folder import Specs
from llmrl.critics.language_model import LanguageModel, decoder_of, head_of, pretrained, vocabulary_of
from llmrl.critics.layers import Tokens
from llmrl.errors import CheckpointError
from llmrl.ops.logprobs import kept_logprobs, peak_logprobs, predicting, token_logprobs
from llmrl.recipe import ModelOptions
from llmrl.train import row_attention
from llmrl.train.adapters import adapted
from llmrl.vision import sight

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
_SAID: set[str] = set()  # of warnings that are given once
_NOISE = ("drop", "jitter")
"""Words in the names of what a module draws at random while it trains."""


class Network(nn.Module):
    """Module that DeepSpeed and DDP wrap: a Hugging Face model with the forward pass that training needs."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.by_rows = False  # whether it reads rows without padding, and what they share once: see `try_rows`

    @property
    def decoder(self) -> Any:
        """The part that makes states of tokens."""
        return decoder_of(plain_model(self.model))

    def states(
        self, token_ids: Tensor, position_ids: Tensor, sample_ids: Tensor, images: Sequence[Sequence[str]] = ()
    ) -> Tensor:
        """(B, T, H) last hidden states of rows and their pictures; those of padding are arbitrary."""
        if any(images):
            return self._seen(token_ids, sample_ids, images)
        decoder = self.decoder
        if self.by_rows and int(sample_ids.max()) > 0:  # a row alone is read as it always was, to the last bit
            return row_attention.decoder_states(decoder, token_ids, position_ids, sample_ids)
        # Padding stands behind the real tokens, where causal attention never looks: no mask is needed.
        inputs = {"position_ids": position_ids} if takes_positions(decoder) else {}  # without them rows are not packed
        states: Tensor = decoder(input_ids=token_ids, use_cache=False, **inputs).last_hidden_state
        return states

    def _seen(self, token_ids: Tensor, sample_ids: Tensor, images: Sequence[Sequence[str]]) -> Tensor:
        """The states by the whole model, which has pictures in the places of their tokens; rows are padded."""
        plain = plain_model(self.model)
        body = plain.base_model
        with sight.load(plain.config.name_or_path).fed(plain, body, token_ids, images) as (ids, pictures):
            states: Tensor = body(
                input_ids=ids, attention_mask=(sample_ids >= 0).long(), use_cache=False, **pictures
            ).last_hidden_state
        return states

    def try_rows(self, device: torch.device) -> bool:
        """Read rows by `row_attention` from now on, where the model can; tells if it does. Collective if sharded."""
        plain, decoder = plain_model(self.model), self.decoder
        attention = plain.config.get_text_config()._attn_implementation
        if device.type != "cpu" or attention not in ("sdpa", row_attention.NAME) or not takes_positions(decoder):
            return False
        reason = row_attention.reason_against(decoder, vocabulary_of(plain.config))
        self.by_rows = reason is None
        if reason is not None and (said := f"{type(plain).__name__}: {reason}") not in _SAID:
            _SAID.add(said)
            log.warning(f"rows are padded, or packed under one mask, and each reads its prompt for itself: {said}")
        return self.by_rows


class TokenScorer(Network):
    """Log-probabilities and entropy of the action tokens of a batch."""

    def forward(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        action_mask: Tensor,
        sample_ids: Tensor,
        temperature: float,
        chunks: int,
        entropy_grad: bool = False,
        support_ids: Tensor | None = None,
        support_counts: Tensor | None = None,
        other_ids: Tensor | None = None,
        images: Sequence[Sequence[str]] = (),
    ) -> tuple[Tensor, ...]:
        """(B, T) log-probabilities at `temperature` and entropies, float32; 0.0 where nothing was chosen.

        With `other_ids` three more: log-probability and id of the likeliest token, and log-probability of these ids.
        Else with `support_ids` two more: log-probabilities and entropies over these ids alone.

        `images` are the pictures of each row. `chunks` is the number of pieces in which the vocabulary logits are
        computed, the same on every rank; the entropies carry a gradient if `entropy_grad`.
        """
        plain: Any = plain_model(self.model)
        states = self.states(token_ids, position_ids, sample_ids, images)
        chosen = predicting(action_mask, sample_ids)  # perhaps nothing; every rank still runs each collective
        asked = (chosen.predicting(states), head_of(plain), chosen.tokens(token_ids))
        outputs: tuple[Tensor, ...]
        if other_ids is not None:
            others = chosen.tokens(other_ids)
            outputs = peak_logprobs(*asked, others, temperature, entropy_grad=entropy_grad, chunks=chunks)
        elif support_ids is None or support_counts is None:
            outputs = token_logprobs(*asked, temperature, entropy_grad=entropy_grad, chunks=chunks)
        else:
            kept = chosen.kept(support_ids, support_counts)
            outputs = kept_logprobs(*asked, kept, temperature, entropy_grad=entropy_grad, chunks=chunks)
        return tuple(chosen.scatter(numbers) for numbers in outputs)


class ValueNetwork(Network):
    """A decoder under heads. A trunk that is frozen gets no gradient, and costs no memory for one."""

    def __init__(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], specs: Specs) -> None:
        super().__init__(model)
        self.specs = specs  # of the heads, as `layers` were made from, for the export
        self.heads = nn.ModuleDict(layers)
        self._frozen = not any(parameter.requires_grad for parameter in model.parameters())

    @property
    def decoder(self) -> Any:
        """The trunk."""
        return self.model

    def forward(self, tokens: Tokens, with_states: bool) -> dict[str, tuple[Tensor, ...]]:
        """Outputs of each head by name; with states also `states`, (B, T, H) and constant."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            states = self.states(tokens.ids, tokens.position_ids, tokens.sample_ids)
        outputs: dict[str, tuple[Tensor, ...]] = {name: head(states, tokens) for name, head in self.heads.items()}
        return outputs | ({"states": (states.detach(),)} if with_states else {})


def plain_model(model: nn.Module) -> Any:
    """The Hugging Face model below PEFT's, with its adapters in place."""
    below: Any = getattr(model, "get_base_model", None)
    return below() if below is not None else model


def load(options: ModelOptions, *, trained: bool = True, checkpointing: bool = False) -> PreTrainedModel:
    """Load the policy from a folder or the hub, in `options.dtype`, dropout off; with LoRA adapters where asked.

    Of a model of several parts, such as one that sees pictures, the part that reads and writes text is trained.

    Raises:
        CheckpointError: no such model, or not a causal language model.
        RecipeError: adapters on what the model does not have, or has twice.
    """
    model = _pretrained(LanguageModel, options, "model.policy", "a causal language model")
    _freeze_other_parts(model)
    _mend_generation_config(model, options.policy)
    if checkpointing and trained:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.use_peft and trained:
        model = adapted(model, options, task_type="CAUSAL_LM")
    return model if trained else model.requires_grad_(False)


def load_decoder(options: ModelOptions, *, trained: bool = True, checkpointing: bool = False) -> PreTrainedModel:
    """Load the model without its vocabulary head, every weight trained, or frozen: the trunk of a critic.

    Raises:
        CheckpointError: no such model.
    """
    from transformers import AutoModel

    model = _pretrained(AutoModel, options, "critic.model", "a language model")
    if model.config.get_text_config() is not model.config:
        model = model.get_decoder()  # of several parts the one that reads text
    if checkpointing and trained:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model if trained else model.requires_grad_(False)


def _pretrained(kind: Any, options: ModelOptions, key: str, expected: str) -> PreTrainedModel:
    folder = Path(options.policy)
    if (folder.is_absolute() or options.policy.startswith(".")) and not (folder / "config.json").is_file():
        raise CheckpointError(f"{key}: {folder} has no config.json; expected a Hugging Face model folder or a hub name")
    try:
        model: PreTrainedModel = pretrained(
            kind,
            options.policy,
            revision=options.model_revision or "main",
            dtype=getattr(torch, options.dtype),
            attn_implementation=options.attn_implementation,
            trust_remote_code=options.trust_remote_code,
        )
    except Exception as error:  # configurations, weights and remote code fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{key}: {options.policy} does not load: {type(error).__name__}: {reason}; expected the folder or the hub "
            f"name of {expected}"
        ) from error
    _still(model)
    return model


def packs(model: nn.Module) -> bool:
    """Tell whether the attention kernel keeps packed rows apart without a mask of (T, T)."""
    plain = plain_model(model)
    flash = "flash" in (plain.config.get_text_config()._attn_implementation or "")
    return flash and takes_positions(decoder_of(plain))


def takes_positions(decoder: nn.Module) -> bool:
    """Tell whether a decoder is told the positions of tokens; others count them, or have none."""
    return "position_ids" in inspect.signature(decoder.forward).parameters


def _still(model: nn.Module) -> None:
    """Switch dropout and noise off, in training mode too: the policy that learns must be the one that sampled.

    What of them a model hides elsewhere is found by `llmrl.train.load_test`.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and any(word in name for word in _NOISE):
                setattr(module, name, 0.0)


def _mend_generation_config(model: Any, name: str) -> None:
    """Let a generation config be saved that Transformers reads and would not write, hours later.

    Options of sampling beside `do_sample: false` are the usual case; the policy is trained by sampling, so it samples.

    Raises:
        CheckpointError: it cannot be mended; says why.
    """
    config = model.generation_config
    if config is None or (fault := _invalid(config)) is None:
        return
    config.do_sample = True
    if _invalid(config) is not None:
        raise CheckpointError(f"model.policy: {name}: generation_config.json could not be written: {fault}; mend it")
    log.warning(
        f"model.policy: {name}: its generation_config.json cannot be saved as it is ({fault}); final/ will have "
        "do_sample: true"
    )


def _invalid(config: Any) -> str | None:
    """Tell why Transformers would not write a generation config; None where it would."""
    try:
        config.validate(strict=True)
    except ValueError as error:
        return " ".join(str(error).partition("If you're using")[0].split())
    return None


def _freeze_other_parts(model: Any) -> None:
    """Keep the parts of a model that read no text, such as an image encoder, as they are: nothing reaches them."""
    if model.config.get_text_config() is model.config:
        return
    learning = {id(p) for part in (decoder_of(model), model.get_output_embeddings()) for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learning)
