"""The table of docs/peers.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package")
def table() -> Iterator[list[tuple[str, str, float, float | None]]]:
    """Method, peer function, largest difference of values and of gradients."""
    lines: list[tuple[str, str, float, float | None]] = []
    yield lines
    print("\n\n| method | peer | value | gradient |\n|---|---|---|---|")
    for method, peer, value, gradient in lines:
        print(f"| {method} | {peer} | {value:.1e} | {'' if gradient is None else f'{gradient:.1e}'} |")
