"""The rule of what may be begun; the scheduler as a whole is tested as the sources that it plays for."""

from __future__ import annotations

import pytest

from llmrl.rollout.scheduler import capacity


@pytest.mark.parametrize(
    ("max_concurrent", "running", "max_staleness", "version", "batch", "accepted", "expected"),
    [
        (64, 0, 0, 0, 32, 0, 32),  # min(64, 1 * 32 - 0)
        (64, 16, 2, 3, 32, 128, 48),  # min(48, 6 * 32 - 144)
        (64, 32, 0, 5, 32, 192, -32),  # min(32, 6 * 32 - 224)
        (64, 0, 4, 10, 32, 400, 64),  # min(64, 15 * 32 - 400)
    ],
)
def test_capacity(
    max_concurrent: int, running: int, max_staleness: int, version: int, batch: int, accepted: int, expected: int
) -> None:
    found = capacity(
        max_concurrent=max_concurrent,
        running=running,
        max_staleness=max_staleness,
        version=version,
        batch=batch,
        accepted=accepted,
    )
    assert found == expected
