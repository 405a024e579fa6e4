"""Episodes of a run: filtered and sorted by the index, found by their words, read whole when they are looked at."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.run_folder.records import ROLLOUTS
from llmrl.view.index import STATUSES, VERDICTS, RolloutIndex, Rows, tail

Order = Literal["file", "reward", "tokens", "advantage", "verdict"]
ORDERS: tuple[Order, ...] = ("file", "reward", "tokens", "advantage", "verdict")
SEARCH_S = 1.0
"""Seconds that a request searches for words; the next one goes on."""
SEARCHES = 8
"""Words whose places are remembered."""
PREVIEW = 160
"""Characters of an answer in a list."""
AT_ONCE = 4 << 20
"""Bytes that are indexed before anything is shown."""
SAVE_EVERY = 20_000
"""New rows after which a live run's index is written again."""
_COLUMNS = "prompt_ids|observed_ids|token_ids|logprobs|versions|token_rewards|advantages|trainer_gaps|entropies"
_NUMBERS = re.compile(rf'"(?:{_COLUMNS})":\[[^\]]*\]'.encode())  # in a text these quotes would be escaped
_UNKNOWN, _NO, _YES = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class EpisodeFilter:
    """Asks for episodes; None and "" ask for nothing."""

    step: int | None = None
    verdict: str = ""  # "none": without one
    truncated: bool | None = None
    least_tokens: int | None = None
    most_tokens: int | None = None
    least_reward: float | None = None
    most_reward: float | None = None
    group: int | None = None  # of the step
    text: str = ""  # in prompt, turns, replies or reason; capitals do not matter
    order: Order = "file"
    descending: bool = False

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """(episodes,) True for rows that it lets pass, its words aside."""
        passed: NDArray[np.bool_] = rows["known"] == 1
        wanted = 0 if self.verdict == "none" else VERDICTS.index(self.verdict) if self.verdict in VERDICTS else None
        bounds = (
            (self.step, "step", np.equal),
            (wanted if self.verdict else None, "verdict", np.equal),
            (self.truncated, "truncated", np.equal),
            (self.group, "group", np.equal),
            (self.least_tokens, "tokens", np.greater_equal),
            (self.most_tokens, "tokens", np.less_equal),
            (self.least_reward, "reward", np.greater_equal),
            (self.most_reward, "reward", np.less_equal),
        )
        for bound, name, compare in bounds:
            if bound is not None:
                passed &= compare(rows[name].astype(np.float64), float(bound))
        if self.verdict and wanted is None:
            passed &= False
        return passed

    def sorted(self, chosen: NDArray[np.intp], rows: Rows) -> NDArray[np.intp]:
        """Numbers of rows in the order that is asked for; those without a number stand last."""
        if self.order == "file":
            return chosen[::-1] if self.descending else chosen
        keys = rows[self.order][chosen].astype(np.float64)
        return chosen[np.argsort(-keys if self.descending else keys, kind="stable")]


class Episodes:
    """The episodes of a run's folder, indexed in the background; until that is done, those of the last steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ROLLOUTS
        self._index = RolloutIndex(self.path)
        self._tail: Rows | None = None
        self._started = self._complete = self._closing = False
        self._share = 0.0
        self._thread: threading.Thread | None = None
        self._written = 0
        self._starting = threading.Lock()
        self._lock = threading.Lock()  # of the index, while it grows
        self._searches: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._search_lock = threading.Lock()

    def rows(self) -> Rows:
        """Rows of the index, with what the run has added; those of the last steps while it is being made."""
        self._begin()
        if not self._complete:
            return self._tail if self._tail is not None else self._index.rows[:0]
        if self._lock.acquire(blocking=False):
            try:
                if self._index.extend():
                    self._searches.clear()
                    if len(self._index.rows) - self._written > SAVE_EVERY:
                        self._save()
            finally:
                self._lock.release()
        return self._index.rows

    @property
    def progress(self) -> float:
        """Share of the file that is indexed, 0 to 1."""
        return 1.0 if self._complete else self._share

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the whole file is indexed; False where it takes longer."""
        self._begin()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._complete

    def close(self) -> None:
        """Stop indexing, and keep what was found."""
        self._closing = True
        if self._thread is not None:
            self._thread.join(2.0)
        if self._lock.acquire(timeout=2.0):
            self._save()
            self._lock.release()

    def steps(self) -> list[dict[str, Any]]:
        """The steps that have episodes, each with how many, their mean reward, and the share of correct ones."""
        rows = self.rows()
        if not len(rows):
            return []
        starts = np.flatnonzero(np.diff(rows["step"].astype(np.int64), prepend=-1))
        counts = np.diff(starts, append=len(rows))
        rewards = np.nan_to_num(rows["reward"].astype(np.float64))
        rewarded = np.add.reduceat((~np.isnan(rows["reward"])).astype(np.int64), starts)
        sums = np.add.reduceat(rewards, starts)
        correct = np.add.reduceat((rows["verdict"] == VERDICTS.index("correct")).astype(np.int64), starts)
        judged = np.add.reduceat((rows["verdict"] > 0).astype(np.int64), starts)
        return [
            {
                "step": int(rows["step"][start]),
                "episodes": int(count),
                "reward": float(sums[i] / rewarded[i]) if rewarded[i] else None,
                "accuracy": float(correct[i] / judged[i]) if judged[i] else None,
            }
            for i, (start, count) in enumerate(zip(starts, counts, strict=True))
        ]

    def select(self, wanted: EpisodeFilter, budget_s: float = SEARCH_S) -> tuple[NDArray[np.intp], float]:
        """Numbers of the rows that a filter lets pass, in its order, and the share of them that was searched."""
        rows = self.rows()
        chosen = np.flatnonzero(wanted.mask(rows))
        share = 1.0
        if wanted.text:
            places = self._search(wanted.text, rows, chosen, budget_s)
            share = float((places[chosen] != _UNKNOWN).mean()) if len(chosen) else 1.0
            chosen = chosen[places[chosen] == _YES]
        return wanted.sorted(chosen, rows), share

    def listed(self, numbers: NDArray[np.intp]) -> list[dict[str, Any]]:
        """Episodes as a list shows them."""
        rows, found = self.rows(), []
        with suppress(OSError), self.path.open("rb") as file:
            for row in rows[numbers[numbers < len(rows)]]:
                found.append(_listed(row, _slim(_line(file, row))))
        return found

    def whole(self, step: int, row: int) -> dict[str, Any] | None:
        """The line of an episode, as values; None where there is none, or none that can be read."""
        rows = self.rows()
        found = rows[(rows["step"] == step) & (rows["row"] == row)]
        with suppress(OSError, ValueError, RecursionError):
            if len(found):
                with self.path.open("rb") as file:
                    line = json.loads(_line(file, found[0]))
                return line if isinstance(line, dict) else None
        return None

    def siblings(self, step: int, row: int) -> list[dict[str, Any]]:
        """The episodes of the same group, in the order of the file."""
        rows = self.rows()
        own = rows[(rows["step"] == step) & (rows["row"] == row)]
        if not len(own):
            return []
        return [facts(each) for each in rows[(rows["step"] == step) & (rows["group"] == own[0]["group"])]]

    def _begin(self) -> None:
        with self._starting:  # never held while the file is read
            if self._started:
                return
            self._started = True
            self._index.load()
            self._written = len(self._index.rows)
            try:
                size = self.path.stat().st_size
            except OSError:
                self._complete = True
                return
            if size - self._index.end < AT_ONCE:
                self._index.extend()
                self._complete = True
                return
            self._tail = tail(self.path)
            self._thread = threading.Thread(target=self._build, name="llmrl-view-index", daemon=True)
            self._thread.start()

    def _build(self) -> None:
        def report(done: int, size: int) -> bool:
            self._share = done / max(1, size)
            return not self._closing

        with self._lock:
            self._index.extend(report)
            self._save()
            self._complete = not self._closing
        self._searches.clear()

    def _save(self) -> None:
        self._index.save()
        self._written = len(self._index.rows)

    def _search(self, text: str, rows: Rows, chosen: NDArray[np.intp], budget_s: float) -> NDArray[np.uint8]:
        """(episodes,) for each row whether it holds the words, as far as that is known; asks no longer than allowed."""
        with self._search_lock:
            places = self._searches.get(text)
            if places is None or len(places) != len(rows):
                places = np.zeros(len(rows), np.uint8)
            self._searches[text] = places
            self._searches.move_to_end(text)
            while len(self._searches) > SEARCHES:
                self._searches.popitem(last=False)
            needle = text.lower()
            escaped = json.dumps(text)[1:-1].lower().encode()
            until = time.monotonic() + budget_s
            with suppress(OSError), self.path.open("rb") as file:
                for number in chosen[places[chosen] == _UNKNOWN]:
                    places[number] = _YES if _holds(_line(file, rows[number]), needle, escaped) else _NO
                    if time.monotonic() > until:
                        break
            return places


def facts(row: Any) -> dict[str, Any]:
    """The facts of a row by name, as JSON has them."""
    return {
        "step": int(row["step"]),
        "row": int(row["row"]),
        "group": int(row["group"]),
        "episode": int(row["episode"]),
        "tokens": int(row["tokens"]),
        "reward": None if np.isnan(row["reward"]) else round(float(row["reward"]), 6),
        "advantage": round(float(row["advantage"]), 6),
        "verdict": VERDICTS[row["verdict"]] or None,
        "status": STATUSES[row["status"]],
        "truncated": bool(row["truncated"]),
    }


def words(line: Mapping[str, Any]) -> Iterator[str]:
    """Every text of an episode that a person reads."""
    yield str(line.get("problem", ""))
    yield str(line.get("reason", ""))
    for message in line.get("prompt") or ():
        yield content(message)
    for turn in line.get("turns") or ():
        yield str(turn.get("text", ""))
        for message in turn.get("reply") or ():
            yield content(message)


def content(message: Any) -> str:
    """The text of a message."""
    inner = message.get("content") if isinstance(message, dict) else message
    if isinstance(inner, list):
        return "\n".join(
            str(part.get("text", f"[{part.get('type', 'part')}]")) for part in inner if isinstance(part, dict)
        )
    return "" if inner is None else str(inner)


def _listed(row: Any, line: Mapping[str, Any] | None) -> dict[str, Any]:
    turns = (line or {}).get("turns") or [{}]
    text = str(turns[-1].get("text", "")) if isinstance(turns[-1], dict) else ""
    return facts(row) | {
        "problem": str((line or {}).get("problem", "")),
        "turns": len(turns) if line else 0,
        "reason": str((line or {}).get("reason", ""))[:PREVIEW],
        "text": text[:PREVIEW] if len(text) <= PREVIEW else f"{text[: PREVIEW // 2]} … {text[-PREVIEW // 2 :]}",
    }


def _line(file: Any, row: Any) -> bytes:
    file.seek(int(row["offset"]))
    line: bytes = file.read(int(row["length"]))
    return line


def _slim(line: bytes) -> dict[str, Any] | None:
    """The values of a line without those of its tokens."""
    with suppress(ValueError, RecursionError):
        found = json.loads(_NUMBERS.sub(b'"-":0', line))
        return found if isinstance(found, dict) else None
    return None


def _holds(line: bytes, needle: str, escaped: bytes) -> bool:
    """True where a text of the line holds the words."""
    if needle.isascii() and escaped not in line.lower():
        return False
    values = _slim(line)
    return values is not None and any(needle in text.lower() for text in words(values))
