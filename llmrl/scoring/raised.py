"""An exception in a line: what was raised, and where in whose file."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

_OWN = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")} | {sys.prefix})


def raised(error: BaseException) -> str:
    """`ValueError: message (mine.py:12)`: the innermost line that is neither llmrl's nor a library's, if any is."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(("<", _OWN, *_LIBRARIES))]
    place = (theirs or frames)[-1:]
    where = "".join(f" ({frame.filename}:{frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {error}{where}"
