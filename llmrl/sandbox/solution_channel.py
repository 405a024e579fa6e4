"""Socket between two processes that do not trust each other: one runs a solution, the other its tests.

The tests, and what they expect, are never in the solution's process: it gets arguments and gives results, and nothing
it does to its own interpreter reaches the comparison. The texts of `solution_values`, of this file and of the
process's own part, `solution_server` or `solution_judge`, are run as one script; standard library only.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # no process that runs this imports the following: each start counts
if TYPE_CHECKING:
    from typing import Any

MOST = 4 << 20  # bytes of a message


class Gone(BaseException):
    """End of the other side, or nonsense from it. Not an Exception: few tests catch it, and none for good."""


class UntoldError(TypeError):
    """A value that cannot be sent to the solution: the tests use something that this channel does not offer."""


class Channel:
    """Messages, JSON with its length before it."""

    def __init__(self, end: int) -> None:
        self.end = end

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        data = len(data).to_bytes(4, "big") + data
        try:
            while data:
                data = data[os.write(self.end, data) :]
        except OSError:
            raise Gone("the solution's process ended") from None

    def receive(self) -> Any:
        length = int.from_bytes(self._exactly(4), "big")
        if length > MOST:
            raise Gone(f"the solution answered with {length} bytes; expected at most {MOST}")
        try:
            return json.loads(self._exactly(length))
        except (ValueError, RecursionError):
            raise Gone("the solution's process sent what is no answer") from None

    def _exactly(self, length: int) -> bytes:
        parts = []
        while length:
            try:
                part = os.read(self.end, min(length, 1 << 16))
            except OSError:
                part = b""
            if not part:
                raise Gone("the solution's process ended")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def readable(error: BaseException, most: int = 300) -> str:
    """The text of an exception, which may raise itself, or hold what is no Unicode."""
    try:
        return str(error)[:most].encode(errors="replace").decode()
    except Exception:
        return ""


def quiet() -> Any:
    """Point standard output and standard error at nothing; return the old output."""
    out = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    return out


def channel() -> Channel:
    """The socket that this process was started with."""
    return Channel(int(sys.argv[1]))
