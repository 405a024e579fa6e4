"""Facts of language models that differ from one to the next: their logits, vocabulary and attention."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class _Outputs:
    """The outputs of a decoder that has computed nothing but given states; all else of them is None."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # of copies and pickles
            raise AttributeError(name)


class _Given:
    """A decoder that computes nothing and gives states back; its attributes are the real one's."""

    def __init__(self, decoder: Any, states: Tensor) -> None:
        self._decoder = decoder
        self._states = states

    def __call__(self, *_: Any, **__: Any) -> _Outputs:
        return _Outputs(self._states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_decoder"], name)


class LanguageModel:
    """Makes models that write text, by Transformers' own classes: causal ones, and those that see pictures besides."""

    @classmethod
    def from_pretrained(cls, source: str, **options: Any) -> Any:
        """The model of a folder or a hub name."""
        from transformers import AutoConfig

        names = {name: options[name] for name in ("revision", "trust_remote_code") if name in options}
        return cls.of(AutoConfig.from_pretrained(source, **names)).from_pretrained(source, **options)

    @classmethod
    def from_config(cls, config: Any, **options: Any) -> Any:
        """The model of a configuration, with weights at random."""
        return cls.of(config).from_config(config, **options)

    @staticmethod
    def of(config: Any) -> Any:
        """The class of Transformers that makes models of this configuration."""
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as SEEING

        sees = type(config) in SEEING and type(config) not in CAUSAL
        return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def decoder_of(model: Any) -> Any:
    """The part of a language model that makes states of tokens.

    Transformers' `get_decoder` goes by names, and gives of some models the model itself, or its head.

    Raises:
        ValueError: the model has no such part.
    """
    named, embeddings = model.get_decoder(), model.get_input_embeddings()
    if named is not model and embeddings in set(named.modules()):
        return named
    bodies = [part for part in model.modules() if part is not model and hasattr(part, "get_input_embeddings")]
    inside = [part for part in bodies if embeddings in set(part.modules())]
    if not inside:
        raise ValueError("no part of it makes states of tokens: its head and its decoder are one")
    return inside[-1]  # the innermost


def head_of(model: Any) -> Callable[[Tensor], Tensor]:
    """(n, H) states to (n, V) logits, by the model's own forward pass behind its decoder.

    The product with the output embeddings is all that most heads do; others scale or cap the logits, shift them, cut
    padding off, or transform the states before. What runs is the model's own code, with a decoder in place of its own
    that gives the states back: so is every head right, also one that nobody here has heard of.

    Args:
        model: a causal language model of Transformers.
    Raises:
        ValueError: as `decoder_of`.
    """
    decoder = decoder_of(model)
    path = next(name for name, module in model.named_modules() if module is decoder)

    def logits(states: Tensor) -> Tensor:
        """As `head_of` says. Of no states it makes no logits, and yet takes part in every collective."""
        held = states if len(states) else functional.pad(states, (0, 0, 0, 1))
        outputs = _with(model, path.split("."), _Given(decoder, held[None])).forward(
            inputs_embeds=held[None], use_cache=False, return_dict=True
        )
        made: Tensor = outputs.logits[0, : len(states)]
        return made

    return logits


def vocabulary_of(config: Any) -> int:
    """Tokens that a language model tells apart; of a configuration of several parts its text part's."""
    return int(config.get_text_config().vocab_size)


def layer_norms(model: Any, run: Callable[[], Any]) -> list[list[float]]:
    """(layers, tokens) norm of the residual stream after each decoder layer, while `run` reads a text; none where
    the layers are not found.
    """
    norms: list[list[float]] = []

    def hook(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        stream = output[0] if isinstance(output, tuple) else output
        norms.append(stream.float().norm(dim=-1).flatten().tolist())

    count = int(model.config.get_text_config().num_hidden_layers)
    stacks = [part for part in decoder_of(model).modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    hooks = [layer.register_forward_hook(hook) for layer in (stacks[0] if stacks else ())]
    try:
        run()
    finally:
        for handle in hooks:
            handle.remove()
    return norms


def pretrained(maker: Any, source: str, **options: Any) -> Any:
    """The model of `maker.from_pretrained(source, **options)`, whose attention computes what its configuration says.

    Transformers' first choice of kernels, `sdpa`, knows no cap of attention scores and leaves it out without a word: a
    model that has one is loaded with `eager`, where no other is asked for.

    Raises:
        ValueError: `sdpa` is asked for, and the model caps its attention scores.
        Exception: whatever Transformers raises.
    """
    from transformers import AutoConfig

    names = {name: options[name] for name in ("revision", "trust_remote_code") if name in options}
    config = AutoConfig.from_pretrained(source, **names)
    cap = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    asked = options.get("attn_implementation")
    if cap is not None and asked == "sdpa":
        raise ValueError(
            f"attn_implementation sdpa leaves out the cap of attention scores (attn_logit_softcapping {cap:g}); "
            "expected eager, or flash_attention_2 on a GPU"
        )
    attention = "eager" if cap is not None and asked is None else asked
    return maker.from_pretrained(source, **(options | {"attn_implementation": attention}))


def _with(model: nn.Module, path: list[str], part: Any) -> Any:
    """A copy of the model that shares all its parts but one, which lies at `path`; hooks stay with the model."""
    first, *rest = path
    shell = copy.copy(model)
    below = part if not rest else _with(model.get_submodule(first), rest, part)
    shell.__dict__["_modules"] = {**model._modules, first: below}
    return shell
