"""Stop strings among token ids: found at the first token that completes one, whatever tokens they are cut into."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmrl.ops.stop_strings import StopStrings

PIECES = ["a", "b", ";", "\n", "\n\n", "<st", "ep>", "x;y", "é"[:1]]


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[i] for i in ids)


@pytest.mark.parametrize(
    ("stop", "ids", "expected"),
    [
        ((";",), [0, 2, 1], (2, ";")),
        ((";",), [0, 1], None),
        ((";",), [0, 7, 1], (2, ";")),  # the token goes on behind the string and is kept whole
        (("\n\n",), [0, 3, 3, 1], (3, "\n\n")),  # two tokens make it
        (("\n\n",), [0, 4, 1], (2, "\n\n")),
        (("<step>",), [0] * 40 + [5, 6], (42, "<step>")),
        (("y", ";"), [0, 7], (2, "y")),  # both at one token: the first that was named
        (("é",), [0, 8], (2, "é")),
    ],
)
def test_the_first_token_that_completes_a_string(
    stop: Sequence[str], ids: list[int], expected: tuple[int, str] | None
) -> None:
    assert StopStrings(decode, stop)(ids) == expected


def test_what_was_searched_before_is_not_decoded_again() -> None:
    asked: list[int] = []

    def counting(ids: Sequence[int]) -> str:
        asked.append(len(ids))
        return decode(ids)

    assert StopStrings(counting, [";"])([0] * 1000 + [2], seen=1000) == (1001, ";")
    assert asked == [5], "one window: a string of one byte and four tokens before it"
