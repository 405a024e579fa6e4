"""Every reward reads a text of one repeated fragment, as a policy that loops writes it, in a time like a plain scan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from llmrl import plugins
from llmrl.rewards.code import Code
from llmrl.types import Score
from tests.readers import ELSEWHERE, FRAGMENTS, READ_BY_PARTS, VERIFIERS, WRAPPED, WRAPPERS, readers

SCANS = 25.0  # plain scans of a megabyte that its reading may last
SCANS_SHORT = 100.0  # of 10,000 characters, which no bound cuts; where time grew with the square, it was 500 to 5000
FLOOR_S = 0.002  # below which time is noise


def test_every_reward_is_read_here() -> None:
    """A new reward has to be put among those above, or the test below does not see it."""
    named = (set(VERIFIERS), READ_BY_PARTS, WRAPPERS, ELSEWHERE)
    assert sorted(name for names in named for name in names) == plugins.names("reward")
    assert {name.partition("/")[0] for name in readers()} >= READ_BY_PARTS | set(VERIFIERS)


def seconds(read: Callable[[str], Any], text: str) -> float:
    """Processor time of a reading; one that refuses the text, by a ValueError, has read it too."""
    start = process_time()
    with contextlib.suppress(ValueError):
        read(text)
    return process_time() - start


def slow(name: str, size: int, most: float, wrapped: list[str]) -> list[tuple[float, str]]:
    """Texts that take more than `most` plain scans, with the number of scans; each is measured thrice before."""
    read = readers()[name]
    read_safely(read)
    found = []
    for fragment in FRAGMENTS:
        for form in wrapped:
            text = form.format((fragment * (size // len(fragment) + 1))[:size])
            scan = seconds(lambda text: sum(sign.isspace() for sign in text), text)
            for _ in range(3):
                scans = max(0.0, seconds(read, text) - FLOOR_S) / scan
                if scans <= most:
                    break
            else:
                found.append((scans, form.format(fragment)))
    return found


def read_safely(read: Callable[[str], Any]) -> None:
    """Load what a first call needs."""
    with contextlib.suppress(ValueError):
        read("5")


@pytest.mark.parametrize("name", readers())
def test_a_repeated_fragment_is_read_like_a_plain_scan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Code, "_functions", lambda *_: Score(0.0))  # no program is run here
    assert not slow(name, 10_000, SCANS_SHORT, ["{}"])


@pytest.mark.slow
@pytest.mark.parametrize("name", readers())
@pytest.mark.parametrize("form", WRAPPED)
def test_a_megabyte_is_read_like_a_plain_scan(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Code, "_functions", lambda *_: Score(0.0))
    assert not slow(name, 1_000_000, SCANS, [form])
