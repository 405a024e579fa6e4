"""Time each reader of model text on a megabyte of a repeated fragment: `python -m benchmarks.growth --json OUT`.

A policy that loops writes such texts. Every reader of tests/readers.py reads every fragment there, repeated up to
`--size` characters, and so does a plain scan (`str.isspace` of each character), in processor time. A pair above
`--limit` seconds is read up to `AGAIN` times, then and at the end, since other work disturbs a core: its least time
counts. The reward `code` is measured up to its sandbox: no program is run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from llmrl.rewards.code import Code
from llmrl.types import Score
from tests.readers import FRAGMENTS, readers

AGAIN = 5


def seconds(read: Callable[[str], Any], text: str) -> float:
    """Processor time of a reading; one that refuses the text, by a ValueError, has read it too."""
    start = process_time()
    with contextlib.suppress(ValueError):
        read(text)
    return process_time() - start


def least(read: Callable[[str], Any], text: str, limit_s: float) -> float:
    """Least time of up to `AGAIN` readings, which end with the first within the limit."""
    times = [seconds(read, text)]
    while min(times) > limit_s and len(times) < AGAIN:
        times.append(seconds(read, text))
    return min(times)


def repeated(fragment: str, size: int) -> str:
    """A text of `size` characters."""
    return (fragment * (size // len(fragment) + 1))[:size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000, help="characters of a text")
    parser.add_argument("--limit", type=float, default=0.2, help="seconds that a reading may take")
    parser.add_argument("--only", nargs="*", help="names of readers; all without")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    Code._functions = lambda *_: Score(0.0)  # type: ignore[method-assign]
    read = {name: reader for name, reader in readers().items() if not arguments.only or name in arguments.only}
    for reader in read.values():  # loads what a first call needs
        seconds(reader, "5")
    pairs = []
    for fragment in FRAGMENTS:
        text = repeated(fragment, arguments.size)
        scan_s = least(lambda text: sum(sign.isspace() for sign in text), text, arguments.limit)
        for name, reader in read.items():
            took_s = round(least(reader, text, arguments.limit), 4)
            pairs.append({"reader": name, "fragment": fragment, "seconds": took_s, "scans": round(took_s / scan_s, 2)})
        slowest = max(pairs[-len(read) :], key=lambda pair: pair["seconds"])
        print(f"{fragment!r}: {slowest['reader']} takes {slowest['seconds']:.3f} s", flush=True)
    for pair in pairs:  # a core that was slow for a while is asked again, later
        if pair["seconds"] > arguments.limit:
            text = repeated(pair["fragment"], arguments.size)
            pair["seconds"] = min(pair["seconds"], round(least(read[pair["reader"]], text, arguments.limit), 4))
    pairs.sort(key=lambda pair: -pair["seconds"])
    above = [pair for pair in pairs if pair["seconds"] > arguments.limit]
    for pair in [*above, *pairs[len(above) :][:10]]:
        print(f"{pair['seconds']:.3f} s, {pair['scans']:.1f} scans: {pair['reader']} on {pair['fragment']!r}")
    print(f"{len(above)} of {len(pairs)} pairs above {arguments.limit} s; load average {os.getloadavg()[0]:.1f}")
    if arguments.json:
        told = {"size": arguments.size, "limit_s": arguments.limit, "above": len(above), "pairs": pairs}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
