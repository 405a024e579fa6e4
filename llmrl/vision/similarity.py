"""Similarity of pictures to a goal in words, in the space of a contrastive model such as CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmrl.errors import CheckpointError, DataError
from llmrl.vision.pictures import opened

if TYPE_CHECKING:
    from torch import Tensor

MOST_KNOWN = 4096
"""Texts whose states are remembered."""


def similarity(states: Tensor, goal: Tensor, baseline: Tensor | None, alpha: float) -> Tensor:
    """(B,) similarity of (B, D) states to a (D,) goal: `1 - |P (s - g)|^2 / 2` with all of length 1.

    `P = alpha d d^T / |d|^2 + (1 - alpha) I` with `d = g - b`: it takes away what tells goal and baseline not apart.
    With alpha 0 it is the cosine, from -1 to 1.

    Raises:
        DataError: goal and baseline have one state, so that nothing tells them apart.

    Source: goal-baseline regularization, Rocamonde et al. 2023 (arXiv 2310.12921), definition 1.
    """
    states, goal = states / states.norm(dim=-1, keepdim=True), goal / goal.norm()
    apart = states - goal
    if baseline is None or not alpha:
        cosine: Tensor = 1 - apart.square().sum(-1) / 2
        return cosine
    direction = goal - baseline / baseline.norm()
    if not direction.any():
        raise DataError("goal and baseline are the same to this model; expected a baseline that says something else")
    along = (apart @ direction)[:, None] * direction / direction.square().sum()
    regular: Tensor = 1 - (alpha * along + (1 - alpha) * apart).square().sum(-1) / 2
    return regular


class Contrastive:
    """A model with one space for pictures and texts, such as CLIP.

    Raises:
        CheckpointError: it does not load, or has no such space.
    """

    def __init__(self, model: str, device: str) -> None:
        self._known: dict[Sequence[str], Tensor] = {}
        from transformers import AutoModel, AutoProcessor

        try:
            self._processor: Any = AutoProcessor.from_pretrained(model)
            self._model: Any = AutoModel.from_pretrained(model).to(device).eval().requires_grad_(False)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{model}: it did not load: {reason}; expected a CLIP model and processor") from error
        if not hasattr(self._model, "get_text_features") or not hasattr(self._model, "get_image_features"):
            raise CheckpointError(
                f"{model}: {type(self._model).__name__} has no space of texts and pictures; expected a CLIP model"
            )

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(B, D) states of texts, float32.

        Raises:
            DataError: a text is longer than the model reads.
        """
        texts = tuple(texts)
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        if texts not in self._known:  # goals are few, and asked for with every episode
            self._known[texts] = self._told(texts)
        return self._known[texts]

    def _told(self, texts: Sequence[str]) -> Tensor:
        given = self._processor.tokenizer(list(texts), padding=True, return_tensors="pt")
        most = int(self._model.config.get_text_config().max_position_embeddings)
        if (width := given["input_ids"].shape[1]) > most:
            raise DataError(f"a goal or baseline of {width} tokens; the model reads {most}: shorten it")
        return self._features(self._model.get_text_features, given)

    def pictures(self, pictures: Sequence[str]) -> Tensor:
        """(B, D) states of pictures, float32."""
        given = self._processor.image_processor(images=[opened(one) for one in pictures], return_tensors="pt")
        return self._features(self._model.get_image_features, given)

    def _features(self, read: Any, given: Any) -> Tensor:
        import torch

        with torch.inference_mode():
            made = read(**{name: value.to(self._model.device) for name, value in given.items()})
        made = made if torch.is_tensor(made) else made.pooler_output
        return made.float().cpu()
