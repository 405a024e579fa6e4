"""Write a page as a file to send: with its scripts and the data of runs, so that it needs no server."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.errors import DataError
from llmrl.run_folder.jsonl import unwritable
from llmrl.view import evaluations
from llmrl.view.answers import View
from llmrl.view.episodes import EpisodeFilter, words
from llmrl.view.runs import Runs, RunView, require_runs
from llmrl.view.server import PAGE, SCRIPTS, STYLE, plain, static

EVALUATIONS = 6
"""Evaluations of a benchmark of which every two are compared; of more, the first and the last of each run."""
COMPARED = 60
"""Problems of a comparison that go with the file."""


def write(
    folders: Sequence[Path],
    out: Path,
    *,
    steps: Sequence[int] = (),
    episodes: int = 100,
    tokenizer: Path | None = None,
) -> int:
    """Write the page; its size in bytes.

    Args:
        folders: of runs, or that hold runs.
        out: an .html file.
        steps: whose episodes go with it; the last of each run by default.
        episodes: of each run, at most.
        tokenizer: for runs that have none.
    Raises:
        DataError: a folder is not there, or there are no runs.
        LlmrlError: the file cannot be written.
    """
    require_runs(folders)
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--export {out}: expected a name that ends in .html")
    view = View(Runs(folders), tokenizer)
    try:
        if not view.runs.found():
            raise DataError(f"{', '.join(map(str, folders))}: no run in there; expected a folder with metrics.jsonl")
        page = page_of(collected(view, steps, episodes))
    finally:
        view.runs.close()
    partial = out.with_name(f"{out.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, out)
    except OSError as error:
        raise unwritable(out, error) from error
    return len(page.encode())


def page_of(data: Any) -> str:
    """The page with everything in it. Its policy admits these scripts and this style, and nothing from anywhere."""
    style = static(STYLE)
    # `<` is spelt, so that no text in the data can end the element that holds it
    given = plain(data).replace("<", "\\u003c")
    loading = '"use strict";\nwindow.EXPORTED = JSON.parse(document.getElementById("data").textContent);'
    script = "\n".join([loading, *(_strictless(static(name)) for name in ("exported.js", *SCRIPTS))])
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>'
    body = f'<script type="application/json" id="data">{given}</script>\n<script>{script}</script>\n</body>'
    return static(PAGE).replace("<!-- head -->", head).replace("</body>", body)


def collected(view: View, steps: Sequence[int], episodes: int) -> dict[str, Any]:
    """The answers to everything that the page asks."""
    runs = view.runs.found()
    names = "\n".join(run.name for run in runs)
    answers = view.answer("runs", {})
    found: dict[str, Any] = {
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "runs": answers,
        "curves": view.answer("curves", {"runs": names, "metrics": "\n".join(answers["metrics"])}),
        "differences": view.answer("differences", {"runs": names}),
        "evaluations": view.answer("evaluations", {}),
        "comparisons": dict(_comparisons(view, runs)),
        "steps": {},
        "episodes": {},
        "episode": {},
        "replays": {},
    }
    for run in runs:
        run.episodes.wait()
        chosen = _chosen(run, steps, episodes)
        shown = run.episodes.listed(chosen)
        kept = {row["step"] for row in shown}
        found["steps"][run.name] = {"steps": [s for s in run.episodes.steps() if s["step"] in kept], "progress": 1}
        for step in sorted(kept):
            found["replays"][f"{run.name}\n{step}"] = view.answer("replays", {"run": run.name, "step": str(step)})
        for row in shown:
            query = {"run": run.name, "step": str(row["step"]), "row": str(row["row"])}
            whole = view.answer("episode", query)
            there = {(each["step"], each["row"]) for each in shown}
            whole["siblings"] = [each for each in whole["siblings"] if (each["step"], each["row"]) in there]
            row["words"] = "\n".join(words(whole))
            found["episode"]["\n".join(query.values())] = whole
        found["episodes"][run.name] = shown
    return found


def _chosen(run: RunView, steps: Sequence[int], most: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Rows of the steps that are asked for, or of the last, the first ones of each step."""
    there = [each["step"] for each in run.episodes.steps()]
    asked = [step for step in (steps or there[-1:]) if step in there]
    parts = [run.episodes.select(EpisodeFilter(step=step))[0] for step in asked]
    each = most // max(1, len(parts))
    return np.concatenate([part[:each] for part in parts]) if parts else np.zeros(0, np.intp)


def _comparisons(view: View, runs: Sequence[RunView]) -> Iterator[tuple[str, Any]]:
    all_of = [(run.name, each["folder"], each["benchmarks"]) for run in runs for each in evaluations.found(run)]
    for benchmark in sorted({name for _, _, benchmarks in all_of for name in benchmarks}):
        having = [(run, folder) for run, folder, benchmarks in all_of if benchmark in benchmarks]
        if len(having) > EVALUATIONS:
            ends = {run: [each for each in having if each[0] == run] for run, _ in having}
            pairs = [(own[0], own[-1]) for own in ends.values()] + [(having[0], having[-1])]
        else:
            pairs = [(before, after) for before in having for after in having]
        for before, after in dict.fromkeys(pairs):
            for change in evaluations.CHANGES:
                query = {"benchmark": benchmark, "change": change}
                query |= {"before_run": before[0], "before_folder": before[1]}
                query |= {"after_run": after[0], "after_folder": after[1]}
                answer = view.answer("comparison", query)
                yield "\n".join(query.values()), {**answer, "rows": answer["rows"][:COMPARED]}


def _strictless(script: str) -> str:
    """A script without its own directive, which stands once before all of them."""
    return script.replace('"use strict";\n', "", 1)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
