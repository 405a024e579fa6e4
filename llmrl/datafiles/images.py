"""Pictures in messages: a mark in the text where each stands, and beside it where they are found.

A message that shows pictures is text like any other, so that whatever reads texts goes on to do so:
`{"role": "user", "content": "￼ What is it?", "images": ["photo.png"]}`. A picture is the path of a file, or a data URI.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrl.errors import DataError
from llmrl.types import Message

MARK = "\ufffc"  # Unicode's sign for an object in a text
COLUMNS = ("images", "image")
"""Columns of pictures beside a prompt, as TRL and datasets call them."""
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def images_of(messages: Sequence[Message]) -> tuple[str, ...]:
    """The pictures of a conversation, in their order."""
    return tuple(image for message in messages for image in message.get("images") or ())


def image_of(value: Any) -> str:
    """A picture of data as a path or a data URI: from either, bytes, an image of PIL, or a form of `datasets`.

    Raises:
        DataError: something else.
    """
    if isinstance(value, Mapping):
        given = next((value[key] for key in ("bytes", "image_url", "url", "path") if value.get(key) is not None), None)
        return image_of(given)
    if hasattr(value, "save") and hasattr(value, "convert"):  # an image of PIL, as `datasets` decodes them
        written = io.BytesIO()
        value.convert("RGB").save(written, "PNG")
        return image_of(written.getvalue())
    if isinstance(value, bytes):
        kind = next((name for begin, name in _KINDS.items() if value.startswith(begin)), None)
        if kind is None:
            raise DataError(f"a picture that begins with {value[:4]!r}; expected PNG, JPEG, GIF or WebP")
        return f"data:image/{kind};base64,{base64.b64encode(value).decode()}"
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        raise DataError(f"a picture at {value:.60}; expected a file or a data URI: download it first")
    if not isinstance(value, str) or not value:
        raise DataError(f"a picture of {type(value).__name__}; expected a path, a data URI or the bytes of one")
    return value


def column_of(values: Mapping[str, Any]) -> Any:
    """The pictures that a row has beside its prompt, as the data has them; None where it has none."""
    return next((values[name] for name in COLUMNS if values.get(name) is not None), None)


def parted(parts: Sequence[Any]) -> tuple[str, list[str | None]]:
    """Text of content in parts, with a mark for each picture, and the pictures; None for one that a column has.

    Raises:
        DataError: a part that is neither a text nor a picture.
    """
    text, images = "", list[str | None]()
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if isinstance(part, str):
            text += part
        elif kind in ("image", "image_url", "input_image") and "text" not in part:
            given = next((part[key] for key in ("image", "image_url", "url", "path") if part.get(key)), None)
            images.append(None if given is None else image_of(given))
            text += MARK
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str) and str(kind or "text").endswith("text"):
            text += part["text"]
        else:
            raise DataError(f"content with a part of {kind!r}; expected parts of type text or image")
    return text, images


def filled(conversation: Sequence[Message], column: Any, folder: Path | None) -> list[Message]:
    """The conversation with the pictures of a row's column at the marks that have none, or before its first question.

    Args:
        column: a picture or a list of them; None: the row has no such column.
        folder: of the data file, from which paths go out.
    Raises:
        DataError: more pictures than places, or fewer; or other marks in the text than pictures.
    """
    given = [] if column is None else [image_of(one) for one in (column if isinstance(column, list) else [column])]
    places = sum(image is None for message in conversation for image in message.get("images") or ())
    if given and not places:
        conversation, places = _before_question(conversation, len(given)), len(given)
    if len(given) != places:
        raise DataError(f"{len(given)} pictures in the column for {places} places in the messages; expected as many")
    pictures = iter(given)
    return [_with_own(message, pictures, folder) for message in conversation]


def _before_question(conversation: Sequence[Message], count: int) -> list[Message]:
    """The conversation with marks before the text of its first user message."""
    first = next((i for i, message in enumerate(conversation) if message["role"] == "user"), None)
    if first is None:
        raise DataError("pictures in a column, and no message of the user to put them before")
    message = conversation[first]
    marked = {**message, "content": MARK * count + message["content"], "images": [None] * count}
    return [*conversation[:first], marked, *conversation[first + 1 :]]


def _with_own(message: Message, pictures: Any, folder: Path | None) -> Message:
    images = [next(pictures) if image is None else image for image in message.get("images") or ()]
    if images and (marks := str(message.get("content")).count(MARK)) != len(images):
        raise DataError(f"{marks} marks of pictures (U+FFFC) in a text beside {len(images)} pictures; remove them")
    return {**message, "images": [_placed(image, folder) for image in images]} if images else message


def _placed(image: str, folder: Path | None) -> str:
    """The picture by a path that holds from anywhere: one of a file goes out from the data file's folder."""
    if image.startswith("data:") or folder is None:
        return image
    return str(Path(folder, image).resolve())
