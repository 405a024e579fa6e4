"""Where synchronous code waits for asynchronous code: one event loop for the whole process.

Clients of servers hold connections that belong to a loop, so a new loop for every wait would break them.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_runner: asyncio.Runner | None = None


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Not to be called from inside a running loop."""
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
        atexit.register(_runner.close)
    return _runner.run(coroutine)
