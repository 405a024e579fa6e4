"""Open pictures: files and data URIs, of bounded size."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.datafiles.images import image_of
from llmrl.errors import DataError
from llmrl.types import Trajectory

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000


def opened(picture: str) -> Image:
    """The picture in RGB.

    Raises:
        DataError: no such file, no picture, or one that is larger than `MOST_BYTES` or `MOST_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content(picture))) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(
                    f"picture {named(picture)}: {image.width} x {image.height} pixels; expected {MOST_PIXELS} at most"
                )
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"picture {named(picture)}: no picture that can be read: {error}") from None


def named(picture: str) -> str:
    """A path, or the beginning of a data URI, for messages."""
    return f"{picture[:40]}..." if picture.startswith("data:") else picture


def content(picture: str) -> bytes:
    """The bytes of a picture's file.

    Raises:
        DataError: no such file, no base64, or more than `MOST_BYTES`.
    """
    if picture.startswith("data:"):
        try:
            found = base64.b64decode(picture.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise DataError(f"picture {named(picture)}: no base64: {error}") from None
    else:
        try:
            with Path(picture).open("rb") as file:
                found = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise DataError(
                f"picture {named(picture)}: {error.strerror}; paths go out from the data file's folder"
            ) from None
    if len(found) > MOST_BYTES:
        raise DataError(f"picture {named(picture)}: more than {MOST_BYTES >> 20} MiB; expected a smaller one")
    return found


def data_uri(picture: str) -> str:
    """The picture as a data URI, as requests to servers take it.

    Raises:
        DataError: as `content`, or it is no PNG, JPEG, GIF or WebP.
    """
    return image_of(content(picture))


def last_picture(trajectory: Trajectory) -> str | None:
    """The last picture that an episode showed: by its environment's replies, else before its first turn; None: none."""
    shown = trajectory.problem.messages if trajectory.shown is None else trajectory.shown
    for messages in (*(turn.reply for turn in reversed(trajectory.turns)), shown):
        for message in reversed(messages):
            if message.get("images"):
                return str(message["images"][-1])
            if message.get("picture"):
                return str(message["picture"])
    return None
