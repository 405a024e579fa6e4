"""Episodes in a terminal. Control characters of a model's text are spelt, so that it cannot write over the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.errors import DataError, RecipeError
from llmrl.run_folder.records import ROLLOUTS
from llmrl.view.episodes import EpisodeFilter, Episodes, content, facts
from llmrl.view.index import VERDICTS

USUAL = 5
"""Episodes that are printed where nobody says how many."""
HEAD, TAIL = 300, 500
"""Characters of a text that are printed, from its beginning and its end."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Asks for episodes of a run, by the options of `llmrl show`."""

    step: int | None = None
    worst: int | None = None
    best: int | None = None
    verdict: str = ""
    text: str = ""
    all_steps: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if self.verdict not in (*VERDICTS, "none"):
            raise RecipeError(f"--verdict {self.verdict}: expected one of {', '.join([*VERDICTS[1:], 'none'])}")
        if self.worst and self.best:
            raise RecipeError("--worst and --best: expected one of them")
        if self.all_steps and self.step is not None:
            raise RecipeError(f"--all and --step {self.step}: expected one of them")


def lines(run: Path, wanted: ShowOptions) -> Iterator[str]:
    """Lines to print.

    Args:
        run: its folder.
    Raises:
        DataError: it holds no episodes, or none of the step.
    """
    if not (run / ROLLOUTS).is_file():
        raise DataError(f"{run}: no {ROLLOUTS}; expected the folder of a run, such as runs/demo")
    episodes = Episodes(run)
    try:
        episodes.wait()
        yield from _lines(run, episodes, wanted)
    finally:
        episodes.close()


def _lines(run: Path, episodes: Episodes, wanted: ShowOptions) -> Iterator[str]:
    steps = [each["step"] for each in episodes.steps()]
    if not steps:
        raise DataError(f"{run / ROLLOUTS}: no episode in it yet; wait for the run's first step")
    step = None if wanted.all_steps else steps[-1] if wanted.step is None else wanted.step
    if step is not None and step not in steps:
        raise DataError(f"{run}: no episodes of step {step}; there are some of steps {steps[0]} to {steps[-1]}")
    order = EpisodeFilter(
        step=step, verdict=wanted.verdict, text=wanted.text, order="reward", descending=wanted.best is not None
    )
    chosen, _ = episodes.select(order, float("inf"))
    rows = episodes.rows()
    of = f"step {step}" if step is not None else f"steps {steps[0]} to {steps[-1]}"
    rewards = rows["reward"][chosen]
    given = rewards[~np.isnan(rewards)]
    mean = f", mean reward {given.mean():.4g}" if len(given) else ""
    many = "episode" if len(chosen) == 1 else "episodes"
    yield f"{run.name}, {of}: {len(chosen)} {many}{mean}"
    for row in rows[chosen[: wanted.worst or wanted.best or USUAL]]:
        line = episodes.whole(int(row["step"]), int(row["row"]))
        yield ""
        yield from _episode(facts(row), line or {}, wanted.whole)


def _episode(about: Mapping[str, Any], line: Mapping[str, Any], whole: bool) -> Iterator[str]:
    reward = "no reward" if about["reward"] is None else f"reward {about['reward']:g}"
    cut = ", cut off" if about["truncated"] else ""
    yield (
        f"── step {about['step']}, {clean(str(line.get('problem', '?')))} #{about['episode']}: "
        f"{about['verdict'] or 'no verdict'}, {reward}, advantage {about['advantage']:g}, {about['tokens']} tokens{cut}"
    )
    parts = {name: value for name, value in (line.get("parts") or {}).items() if value is not None}
    facts_of = {
        "reason": line.get("reason"),
        "read": line.get("answer"),
        "reference": line.get("reference"),
        "parts": ", ".join(f"{name} {value:g}" for name, value in parts.items()),
        "end": None if about["status"] == "done" else about["status"],
    }
    for name, value in facts_of.items():
        if value:
            yield f"   {name}: {clean(str(value))}"
    shown = line.get("shown", line.get("prompt"))
    for message in (shown or [])[None if whole else -1 :]:
        yield from _text(str(message.get("role", "?")), content(message), whole)
    turns = line.get("turns") or []
    for number, turn in enumerate(turns):
        if not whole and 2 <= number < len(turns) - 2:
            if number == 2:
                yield f"   … {len(turns) - 4} turns more; --whole prints them …"
            continue
        yield from _text("policy" if not turn.get("agent") else str(turn["agent"]), str(turn.get("text", "")), whole)
        for message in turn.get("reply") or ():
            yield from _text(str(message.get("role", "?")), content(message), whole)


def _text(who: str, text: str, whole: bool) -> Iterator[str]:
    if not whole and len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} … {len(text) - HEAD - TAIL} characters more … {text[-TAIL:]}"
    first, *more = clean(text).split("\n")
    yield f"   {clean(who)} ▏{first}"
    indent = " " * (4 + len(who))
    yield from (f"{indent}▏{line}" for line in more)


def clean(text: str) -> str:
    """A text whose control characters are spelt; ends of lines and tabs stay."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
