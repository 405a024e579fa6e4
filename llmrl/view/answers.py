"""Answers to what the page asks, by name: plain values, for the server and for a page that is sent as one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmrl import __version__
from llmrl.view import evaluations, replays
from llmrl.view.detail import ABOUT, detail
from llmrl.view.episodes import ORDERS, EpisodeFilter, facts
from llmrl.view.runs import PICTURES, SHOWN_BYTES, Runs, RunView, differences
from llmrl.view.vocabulary import of_run

Query = Mapping[str, str]
POINTS = 1200
"""Points of a curve; longer ones are averaged in so many pieces."""
PAGE_ROWS = 200
"""Episodes of a list that are sent at once."""


class UnknownQueryError(Exception):
    """A request that has no answer; says what was expected."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class View:
    """The runs, asked by name.

    Args:
        runs: that are shown.
        tokenizer: for runs that have none.
    """

    def __init__(self, runs: Runs, tokenizer: Path | None = None) -> None:
        self.runs = runs
        self._tokenizer = tokenizer
        self._known: Mapping[str, Callable[[Query], Any]] = {
            "runs": self._runs,
            "curves": self._curves,
            "differences": self._differences,
            "run": self._run,
            "steps": self._steps,
            "episodes": self._episodes,
            "episode": self._episode,
            "replays": self._replays,
            "evaluations": self._evaluations,
            "comparison": self._comparison,
            "files": self._files,
            "text": self._text,
        }

    def answer(self, name: str, query: Query) -> Any:
        """The answer to a question of the page.

        Raises:
            UnknownQueryError: no such question, run or episode, or a value that is none.
        """
        if name not in self._known:
            raise UnknownQueryError(f"{name}: no such question; known: {', '.join(self._known)}", 404)
        return self._known[name](query)

    def picture(self, query: Query) -> Path:
        """The file of a picture of a run.

        Raises:
            UnknownQueryError: there is none.
        """
        path = self.run(query).file(query.get("path", ""))
        if path is None or path.suffix.lower() not in PICTURES:
            raise UnknownQueryError(f"{query.get('path')}: no picture of the run", 404)
        return path

    def run(self, query: Query, key: str = "run") -> RunView:
        """The run that a question names.

        Raises:
            UnknownQueryError: there is none of the name.
        """
        run = self.runs.named(query.get(key, ""))
        if run is None:
            raise UnknownQueryError(f"run {query.get(key, '')!r}: not there", 404)
        return run

    def _runs(self, _query: Query) -> Any:
        runs = [run.summary() for run in self.runs.found()]
        names = {name for run in self.runs.found() for name in run.metrics()}
        return {"version": __version__, "runs": runs, "metrics": sorted(names), "about": ABOUT}

    def _curves(self, query: Query) -> Any:
        """Points of each metric that is asked for, by run."""
        names = query.get("metrics", "").split("\n")
        wanted = query.get("runs", "").split("\n")
        runs = [run for run in self.runs.found() if run.name in wanted]
        return {
            run.name: {name: thinned(points) for name in names if (points := run.metrics().get(name))} for run in runs
        }

    def _differences(self, query: Query) -> Any:
        wanted = query.get("runs", "").split("\n")
        runs = [run for run in self.runs.found() if run.name in wanted]
        return {"runs": [run.name for run in runs], "rows": differences(runs) if len(runs) > 1 else []}

    def _run(self, query: Query) -> Any:
        run = self.run(query)
        return {"name": run.name, "folder": str(run.folder), "recipe": run.recipe(), "manifest": run.manifest()}

    def _steps(self, query: Query) -> Any:
        run = self.run(query)
        return {"steps": run.episodes.steps(), "progress": run.episodes.progress}

    def _episodes(self, query: Query) -> Any:
        run, wanted = self.run(query), filter_of(query)
        chosen, share = run.episodes.select(wanted)
        first, count = _whole(query, "offset", 0), min(_whole(query, "limit", PAGE_ROWS), PAGE_ROWS)
        return {
            "total": len(chosen),
            "searched": share,
            "progress": run.episodes.progress,
            "offset": first,
            "rows": run.episodes.listed(chosen[first : first + count]),
        }

    def _episode(self, query: Query) -> Any:
        run = self.run(query)
        step, row = _whole(query, "step", 0), _whole(query, "row", 0)
        line = run.episodes.whole(step, row)
        if line is None:
            waits = "; the file is still being indexed" if run.episodes.progress < 1 else ""
            raise UnknownQueryError(f"step {step}, episode {row}: not in {run.episodes.path}{waits}", 404)
        rows = run.episodes.rows()
        own = rows[(rows["step"] == step) & (rows["row"] == row)][0]
        found = detail(line, of_run(run.folder, run.recipe(), self._tokenizer))
        return facts(own) | {"group_number": int(own["group"])} | found | {"siblings": run.episodes.siblings(step, row)}

    def _replays(self, query: Query) -> Any:
        return replays.found(self.run(query), _whole(query, "step", 0))

    def _evaluations(self, _query: Query) -> Any:
        return [
            {"run": run.name, "evaluations": found} for run in self.runs.found() if (found := evaluations.found(run))
        ]

    def _comparison(self, query: Query) -> Any:
        change, benchmark = query.get("change", "lost"), query.get("benchmark", "")
        if change not in evaluations.CHANGES:
            raise UnknownQueryError(f"change {change!r}: expected one of {', '.join(evaluations.CHANGES)}")
        files = []
        for side in ("before", "after"):
            run, folder = self.run(query, f"{side}_run"), query.get(f"{side}_folder", "")
            file = evaluations.file_of(run, folder, benchmark)
            if file is None:
                raise UnknownQueryError(f"{run.name}, {folder}: no answers of {benchmark}", 404)
            files.append(file)
        return evaluations.compared(files[0], files[1], change)

    def _files(self, query: Query) -> Any:
        return self.run(query).files()

    def _text(self, query: Query) -> Any:
        path = self.run(query).file(query.get("path", ""))
        if path is None or path.suffix.lower() in PICTURES:
            raise UnknownQueryError(f"{query.get('path')}: no text of the run", 404)
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                file.seek(max(0, size - SHOWN_BYTES))
                text = file.read(SHOWN_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise UnknownQueryError(f"{query.get('path')}: cannot be read: {error.strerror}", 404) from None
        return {"path": query["path"], "bytes": size, "text": text, "cut": size > SHOWN_BYTES}


def filter_of(query: Query) -> EpisodeFilter:
    """The filter that a question spells.

    Raises:
        UnknownQueryError: a value is none.
    """
    given: dict[str, Any] = {}
    for field in fields(EpisodeFilter):
        text = query.get(field.name, "")
        if text == "":
            continue
        if field.name in ("truncated", "descending"):
            given[field.name] = text in ("1", "true")
        elif field.name in ("verdict", "text"):
            given[field.name] = text
        elif field.name == "order":
            if text not in ORDERS:
                raise UnknownQueryError(f"order {text!r}: expected one of {', '.join(ORDERS)}")
            given[field.name] = text
        else:
            given[field.name] = _number(field.name, text)
    return EpisodeFilter(**given)


def thinned(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """The points, or means of as many neighbours as leave `most`."""
    size = -(-len(points) // most)
    if size <= 1:
        return [(float(step), value) for step, value in points]
    parts = [points[first : first + size] for first in range(0, len(points), size)]
    return [(sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)) for part in parts]


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UnknownQueryError(f"{name} {text!r}: expected a number") from None
    if number != number:
        raise UnknownQueryError(f"{name} {text!r}: expected a number")
    return number


def _whole(query: Query, name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 12:
        raise UnknownQueryError(f"{name} {text!r}: expected a whole number of at least 0")
    return int(text)
