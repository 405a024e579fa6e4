"""Strings at which a completion ends, found among token ids as they are sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

SLACK = 4  # tokens decoded before the longest string: a decoder may drop or break the first character of a window


class StopStrings:
    """Finds the token with which a text first holds one of some strings.

    With a token for each character, `StopStrings(decode, [";"])(ids of "a;b")` is `(2, ";")`: the tokens of the string
    are kept whole, and what the last of them holds behind it is kept too.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        """Make a finder.

        Args:
            decode: token ids to text; special tokens that it writes can be stop strings.
            stop: at least one string, none of them empty.
        """
        self._decode = decode
        self._stop = tuple(stop)
        self._window = max(len(string.encode()) for string in stop) + SLACK  # a token has a byte or more

    def __call__(self, token_ids: Sequence[int], seen: int = 0) -> tuple[int, str] | None:
        """Number of tokens up to the first string's last, and the string; None where there is none.

        Args:
            token_ids: of a completion, from its beginning.
            seen: how many of them were searched before, without success.
        """
        for end in range(seen + 1, len(token_ids) + 1):
            text = self._decode(token_ids[max(0, end - self._window) : end])
            for string in self._stop:
                if string in text:
                    return end, string
        return None
