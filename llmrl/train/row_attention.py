"""Rows without padding: one behind the other, each attends to itself, and a beginning that rows share is read once.

On a CPU alone: a kernel per row costs nothing there, while padding and repeated prompts cost what real tokens do. The
rows reach the attention of each layer through Transformers' AttentionInterface. Which models can take it is found out
by trial (`reason_against`): their masks must be causal and no more, and their states must be those of padded rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrl.train.row_layout import RowLayout

NAME = "llmrl_rows"
_FAR = (0, 1, 2, 7, 63, 64, 500, 1023, 4095, 4096, 8191, 32768, 131072, 1 << 20)
"""Places at which masks are looked at: a window or a chunk that is shorter shows."""
_BOUNDS = {torch.float32: 1e-4, torch.float64: 1e-6}
"""Relative gaps that kernels leave between states of padded rows and of these; of other dtypes `_WIDE`."""
_WIDE = 3e-2
_IGNORED = frozenset({"position_ids", "cache_position", "rows", "is_causal"})
"""Arguments of attention that change nothing beside rows and their order; any other that is set is refused."""


class UnfitError(Exception):
    """A model asks of attention what rows do not give."""


def decoder_states(decoder: Any, token_ids: Tensor, position_ids: Tensor, sample_ids: Tensor) -> Tensor:
    """(B, T, H) last hidden states of a decoder that `reason_against` has nothing against; padding's are arbitrary."""
    rows = RowLayout.of(token_ids, sample_ids)
    nothing = torch.zeros((1, 1, 1, 1))  # a mask that is made: the model makes none
    states = decoder(
        input_ids=token_ids.flatten()[rows.source][None],
        position_ids=position_ids.flatten()[rows.source][None],
        attention_mask=nothing,
        use_cache=False,
        rows=rows,
    ).last_hidden_state
    scattered: Tensor = states[0].index_select(0, rows.place).view(*token_ids.shape, -1)
    return scattered


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    rows: RowLayout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """(1, N, heads, D) attention of (1, heads, N, D) queries by rows; without rows what `sdpa` computes.

    Raises:
        UnfitError: the model asks for something else, such as a window, a cap or a bias.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if rows is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
        return plain
    _require_plain(attention_mask, others)
    if (trial := _TRIAL.get()) is not None:
        trial.attended += 1
    options: dict[str, Any] = {"scale": scaling, "dropout_p": dropout, "enable_gqa": key.shape[1] != query.shape[1]}
    sizes = [[call.rows * call.queries for call in rows.calls], *2 * [[call.rows * call.keys for call in rows.calls]]]
    asked = zip((query, key, value), (rows.queries, rows.keys, rows.keys), sizes, strict=True)
    gathered = [_at(heads[0].transpose(0, 1), places).split(counts) for heads, places, counts in asked]
    parts = []
    for call, *given in zip(rows.calls, *gathered, strict=True):
        q, k, v = (each.unflatten(0, (call.rows, -1)).transpose(1, 2) for each in given)
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=call.mask, is_causal=call.mask is None, **options
        )
        parts.append(found.transpose(1, 2).flatten(0, 1))
    return _at(parts[0] if len(parts) == 1 else torch.cat(parts), rows.answers)[None], None


def _at(stream: Tensor, places: Tensor | None) -> Tensor:
    """Tokens of a stream by their places."""
    return stream if places is None else stream.index_select(0, places)


def reason_against(decoder: Any, vocabulary: int) -> str | None:
    """Try a decoder on a few rows: why it cannot read them by `decoder_states`; None where it can, and now does.

    A decoder of which there is nothing to say is left as it was. Collective where it is sharded, as its forward is.
    """
    configs = {id(m.config): m.config for m in decoder.modules() if hasattr(m, "config")}.values()
    before = [config._attn_implementation for config in configs]
    _register()
    for config in configs:
        config._attn_implementation = NAME
    try:
        reason = _tried(decoder, vocabulary)
    except UnfitError as error:
        reason = str(error)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    if reason is not None:
        for config, attention in zip(configs, before, strict=True):
            config._attn_implementation = attention
    return reason


@dataclass(slots=True)
class _Trial:
    """Observations of a trial: the masks that the model asked for, and how often it attended by rows."""

    masks: list[Callable[..., Tensor]]
    attended: int = 0


_TRIAL: ContextVar[_Trial | None] = ContextVar("trial", default=None)


@contextmanager
def _observed() -> Iterator[_Trial]:
    trial = _Trial([])
    token = _TRIAL.set(trial)
    try:
        yield trial
    finally:
        _TRIAL.reset(token)


def _tried(decoder: Any, vocabulary: int) -> str | None:
    """Compare states of rows that share beginnings with those of each row alone."""
    lengths, shared = (21, 17, 12, 19, 7, 9), (12, 12, 12, 0, 0, 4)
    drawn = np.random.default_rng(0).integers(0, vocabulary, (len(lengths), max(lengths)))
    for row, same in enumerate(shared):
        drawn[row, :same] = drawn[0, :same]
    rows = [torch.from_numpy(drawn[i, :length]) for i, length in enumerate(lengths)]
    positions = [torch.arange(length) for length in lengths]
    training = decoder.training
    decoder.eval()
    try:
        with torch.no_grad(), _observed() as trial:
            alone = [
                decoder(input_ids=row[None], position_ids=place[None], use_cache=False).last_hidden_state[0].float()
                for row, place in zip(rows, positions, strict=True)
            ]
            if not trial.masks or not all(map(_causal, trial.masks)):
                return "its layers look at other tokens than all before" if trial.masks else "it makes its own masks"
            owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
            asked = torch.cat(rows)[None], torch.cat(positions)[None], owner[None]
            found = decoder_states(decoder, *asked)[0]
    finally:
        decoder.train(training)
    layers = int(decoder.config.get_text_config().num_hidden_layers)
    if trial.attended != layers:
        return f"{trial.attended} of its {layers} layers attend by Transformers' interface"
    expected = torch.cat(alone)
    gap = float((found.float() - expected).norm() / expected.norm())
    if not gap <= _BOUNDS.get(found.dtype, _WIDE):
        return f"its states differ from those of a row alone, by {gap:.1e} of their size"
    return None


def _causal(mask: Callable[..., Tensor]) -> bool:
    """True if a mask shows each token all tokens before it, and itself, however far they are."""
    places = torch.tensor(_FAR)
    nothing = torch.zeros((), dtype=torch.int64)
    queries, keys = places[:, None], places[None, :]
    shown = mask(nothing, nothing, queries, keys).expand(len(places), len(places))
    return torch.equal(shown, keys <= queries)


def _require_plain(attention_mask: Tensor | None, others: dict[str, Any]) -> None:
    """Refuse what would be left out without a word.

    Raises:
        UnfitError: names it.
    """
    if attention_mask is not None and attention_mask.numel() != 1:
        raise UnfitError("it makes its own masks")
    if others.get("is_causal") is False:
        raise UnfitError("its attention is not causal")
    for name, given in others.items():
        if given is not None and given is not False and name not in _IGNORED:
            raise UnfitError(f"its attention has {name}")


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def mask(*args: Any, **options: Any) -> Any:
        if (trial := _TRIAL.get()) is not None:
            trial.masks.append(options["mask_function"])
        return sdpa_mask(*args, **options)

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)
