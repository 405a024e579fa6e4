"""The event loop of the tests of sources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmrl import aio


@pytest.fixture(autouse=True)
def loop_of_its_own() -> Iterator[None]:
    """Ends a loop in the background that a test left."""
    yield
    aio.foreground()
