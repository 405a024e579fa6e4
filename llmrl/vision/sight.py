"""Read pictures for a model that sees: the tokens that stand for each, and the inputs of its forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llmrl.errors import CheckpointError, DataError
from llmrl.vision.pictures import named, opened

if TYPE_CHECKING:
    from torch import Tensor

MOST_KNOWN = 4096
"""Pictures whose tokens are remembered."""


@dataclass(frozen=True)
class Sight:
    """A model's processor of pictures, as Transformers loads it."""

    processor: Any
    _known: dict[str, list[int]] = field(default_factory=dict, compare=False)  # tokens of the last pictures

    @property
    def mark(self) -> str:
        """Token that stands for a picture in a rendered prompt, before it is spelled out."""
        return str(self.processor.image_token)

    @property
    def _mark_id(self) -> int:
        return int(self.processor.tokenizer.convert_tokens_to_ids(self.mark))

    def spelled(self, images: Sequence[str]) -> list[list[int]]:
        """Tokens that stand for each picture in a prompt, as many as the model makes of it."""
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        for image in images:
            if image not in self._known:  # the answers of a group are to the same ones
                _, (text,) = self._processed([image])
                self._known[image] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [list(self._known[image]) for image in images]

    def expanded(self, token_ids: Sequence[int], images: Sequence[str]) -> list[int]:
        """A prompt in which the tokens of each picture are in the place of its mark.

        Raises:
            DataError: another number of marks than of pictures: the template wrote other ones.
        """
        mark, ids = self._mark_id, list(token_ids)
        if ids.count(mark) != len(images):
            raise DataError(
                f"the chat template wrote {ids.count(mark)} marks {self.mark!r} for {len(images)} pictures; expected "
                "one for each"
            )
        spelled = iter(self.spelled(images))
        return [token for one in ids for token in (next(spelled) if one == mark else (one,))]

    def collapsed(self, token_ids: Sequence[int], images: Sequence[str]) -> list[int]:
        """The prompt that `expanded` took, for engines that spell pictures out by themselves."""
        ids, made, start = list(token_ids), list[int](), 0
        for begin, end in self._places(ids, images):
            made += [*ids[start:begin], self._mark_id]
            start = end
        return made + ids[start:]

    def inputs(self, token_ids: Tensor, images: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """Inputs of a forward pass besides tokens and mask.

        Args:
            token_ids: (B, T), in which all pictures are spelled out, and nothing else has their tokens: see `apart`.
            images: of each row.
        """
        import torch

        pixels, _ = self._processed([image for row in images for image in row])
        made = {name: value.to(token_ids.device) for name, value in pixels.items() if torch.is_tensor(value)}
        return made | {"mm_token_type_ids": self._of_pictures(token_ids).long()}

    @contextmanager
    def fed(
        self, model: Any, body: Any, token_ids: Tensor, images: Sequence[Sequence[str]]
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Token ids and further inputs for a forward pass of `body`, a part of the model or all of it: see `apart`."""
        taken = inspect.signature(body.forward).parameters
        with self.apart(model, token_ids, images) as ids:
            yield ids, {name: value for name, value in self.inputs(ids, images).items() if name in taken}

    @contextmanager
    def apart(self, model: Any, token_ids: Tensor, images: Sequence[Sequence[str]]) -> Iterator[Tensor]:
        """Token ids for the model, while the context lasts, in which picture tokens that show no picture are others.

        A policy may sample such a token, which is then a word like any other. Models take each of them for a part of a
        picture, so that one of them too many is an error: they get another id, and its own embedding all the same.
        """
        import torch

        pictured = torch.zeros(token_ids.shape, dtype=torch.bool)
        for row, (ids, shown) in enumerate(zip(token_ids.tolist(), images, strict=True)):
            for begin, end in self._places(ids, shown):
                pictured[row, begin:end] = True
        words = self._of_pictures(token_ids) & ~pictured.to(token_ids.device)
        if not words.any():
            yield token_ids
            return

        def embedded(layer: Any, _: Any, made: Tensor) -> Tensor:
            if made.shape[:2] != words.shape:  # a step of generation, of one token
                return made
            own = layer.forward(token_ids.masked_fill(~words, self._word_id))  # as it scales them, without this hook
            return torch.where(words[..., None], own, made)

        hook = model.get_input_embeddings().register_forward_hook(embedded)
        try:
            yield token_ids.masked_fill(words, self._word_id)
        finally:
            hook.remove()

    def _processed(self, images: Sequence[str]) -> tuple[Any, list[str]]:
        """Pixels of pictures with what goes with them, and of each the text that stands for it in a prompt."""
        own = self.processor
        options = own._merge_kwargs(own.valid_processor_kwargs, tokenizer_init_kwargs=own.tokenizer.init_kwargs)
        found: tuple[Any, list[str]] = own._process_images(
            [opened(image) for image in images], **{**options["images_kwargs"], "return_tensors": "pt"}
        )
        return found

    def _of_pictures(self, token_ids: Tensor) -> Tensor:
        """(B, T) bool: True for tokens that stand for a piece of a picture."""
        import torch

        return torch.isin(token_ids, torch.tensor(self.processor.image_token_ids, device=token_ids.device))

    @property
    def _word_id(self) -> int:
        """A token that is no part of a picture."""
        return next(i for i in range(len(self.processor.tokenizer)) if i not in self.processor.image_token_ids)

    def _places(self, ids: Sequence[int], images: Sequence[str]) -> list[tuple[int, int]]:
        """Begin and end of each picture among the tokens.

        Raises:
            DataError: one is not there.
        """
        found, start, ids = list[tuple[int, int]](), 0, list(ids)
        for tokens, image in zip(self.spelled(images), images, strict=True):
            try:
                begin = ids.index(tokens[0], start)
                while ids[begin : begin + len(tokens)] != tokens:
                    begin = ids.index(tokens[0], begin + 1)
            except ValueError:
                raise DataError(
                    f"picture {named(image)}: its {len(tokens)} tokens are not in the row; has it changed?"
                ) from None
            start = begin + len(tokens)
            found.append((begin, start))
        return found


def sees(model: str) -> bool:
    """True for a model whose configuration has a part for pictures."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError):  # of code that is not trusted, say; whoever loads the model tells
        return False
    return getattr(config, "vision_config", None) is not None


@lru_cache(maxsize=8)
def load(model: str) -> Sight:
    """The sight of a model folder or hub name.

    Raises:
        CheckpointError: the model reads no pictures, or not by one kind of token.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{model}: its processor of pictures does not load: {reason}") from None
    if getattr(processor, "image_processor", None) is None:
        raise CheckpointError(
            f"{model}: it reads no pictures (there is no image processor in it), and the messages have some; expected "
            "a vision-language model with preprocessor_config.json, or messages without images"
        )
    if getattr(processor, "image_token_id", None) is None:
        raise CheckpointError(f"{model}: {type(processor).__name__} names no image_token, by which pictures are placed")
    return Sight(processor)
