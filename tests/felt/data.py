"""Datasets: their first problems."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl.plugins import build
from tests.felt.probe import Options, Probe

TINY: Options = {"split": "tiny"}
ARITHMETIC: Options = {"name": "arithmetic", "high": 9}
MATH = {"problem": "What is 1+1?", "solution": "So \\boxed{2}.", "answer": "2"}


def use(dataset: Any) -> Any:
    """The first problems of a dataset; None where it has a number of its own."""
    return [*islice(dataset.problems(), 60)]


def counted(dataset: Any) -> Any:
    """Count the problems."""
    return [problem.id for problem in dataset.problems()]


def written(*rows: Any, name: str = "rows.jsonl") -> str:
    """A file of these rows."""
    path = Path(mkdtemp(prefix="felt-")) / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def known(name: str, row: Any, *more: str, split: str = "train", text: str = "Go.", **values: Any) -> list[Probe]:
    """Probes of a known dataset: a file of one row in place of those that ship, another split, another wording."""
    path, other = written(row), written(row, row)
    words = {field: [text] for field in more}
    return [
        Probe(use=use, base=TINY, values={"path": [path], "split": [split], **words, **values}),
        Probe(use=use, base={"path": path, "split": split}, values={"path": [other], **words, **values}),
    ]


def probes() -> dict[str, list[Probe]]:
    competitions = {
        f"data {name}": known(name, MATH, "instruction", split="train" if name == "math" else "test")
        for name in ("aime24", "aime25", "amc23", "math", "math500")
    }
    return competitions | _made() | _of_others() | _of_files()


def _made() -> dict[str, list[Probe]]:
    nums = {"nums": [1, 2, 3], "target": 6}
    return {
        "data arithmetic": [
            Probe(
                use=use,
                base={"high": 20, "count": 9},
                values={"operators": ["+-"], "low": [5], "template": ["{a} {op} {b}"], "count": [3]},
            )
        ],
        "data gsm8k": known("gsm8k", {"question": "How many?", "answer": "#### 5"}, "instruction"),
        "data countdown": known("countdown", nums, "template", text="{nums} {target}"),
        "data game24": known("game24", {"nums": [1, 2, 3, 4], "rank": 905}, "template", text="{nums}"),
        "data countdown_generated": [
            Probe(
                use=use,
                base={"count": 8},
                values={
                    "count": [4],
                    "counts": [[3]],
                    "operators": ["+-"],
                    "low_target": [50],
                    "high_target": [60],
                    "template": ["{nums} {target}"],
                },
            )
        ],
        "data constrained_text": [
            Probe(use=use, base={"count": 8}, values={"count": [4], "nouns": [2], "template": ["Use {words}"]})
        ],
        "data bug_fixes": [
            Probe(
                use=use,
                base={"count": 4},
                values={"count": [2], "template": ["{issue} {path} {text}"], "modules": [2], "arguments": [3]},
            )
        ],
    }


def _of_others() -> dict[str, list[Probe]]:
    return {
        "data games": [
            Probe(use=use, base={"env": {"name": "nim"}, "count": 4}, values={"env": [{"name": "maze"}], "count": [2]})
        ],
        "data mixture": [
            Probe(
                use=counted,
                base={
                    "sources": {
                        "a": {"data": {**ARITHMETIC, "count": 9}, "weight": 1.0},
                        "b": {"data": {"name": "gsm8k", "split": "tiny"}, "weight": 1.0},
                    }
                },
                values={
                    "sources": [
                        {
                            "a": {"data": {**ARITHMETIC, "count": 3}, "weight": 1.0},
                            "b": {"data": {"name": "gsm8k", "split": "tiny"}, "weight": 1.0},
                        }
                    ]
                },
            )
        ],
        "data humaneval": [Probe(use=use, base=TINY, values={"path": [], "split": []})],
        "data mbpp": [Probe(use=use, base=TINY, values={"shown_tests": [2, 3, 0], "path": [], "split": []})],
        "data miniwob": [
            Probe(
                use=use,
                base={"seeds": 3, "tasks": ["click-button"]},
                values={"tasks": [["click-link"]], "seeds": [2], "first": [7], "levels": [2]},
            )
        ],
        "data shop": [
            Probe(use=use, base={"seeds": 3}, values={"kinds": [["find"]], "seeds": [2], "first": [7], "levels": [2]})
        ],
        "data swe": [Probe(use=use, base=TINY, values={"system": [False]})],
    }


def _of_files() -> dict[str, list[Probe]]:
    rows = [{"q": "a?", "question": "b?", "answer": "1", "gold": "2", "id": "x", "key": "y"}]
    ids = [problem.id for problem in build("data", {**ARITHMETIC, "count": 9}).problems()]
    told = ("correct", "wrong")
    lines = [{"problem": i, "verdict": told[n > k], "value": 1.0} for n, i in enumerate(ids) for k in range(8)]
    records, others = written(*lines), written(*lines[:40])
    return {
        "data jsonl": [
            Probe(
                use=use,
                base={"path": written(*rows)},
                values={
                    "path": [written({"question": "c", "answer": "2"})],
                    "prompt_column": ["q"],
                    "answer_column": ["gold"],
                    "id_column": ["key"],
                    "instruction": ["Go."],
                },
            )
        ],
        "data split": [
            Probe(
                use=counted,
                base={"of": {**ARITHMETIC, "count": 9}, "test_size": 4},
                values={"of": [{**ARITHMETIC, "count": 5}], "part": ["test"], "test_size": [2], "seed": [1]},
            )
        ],
        "data by_pass_rate": [
            Probe(
                use=counted,
                base={"of": {**ARITHMETIC, "count": 9}, "records": records, "missing": "drop"},
                values={
                    "repeats": [[1, 1, 1, 1]],
                    "below": [0.3],
                    "records": [others],
                    "of": [{**ARITHMETIC, "count": 4}],
                },
            )
        ],
    }
