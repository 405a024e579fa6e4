"""Datasets: their first problems."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

from llmrl.datafiles.rows import tiny
from llmrl.plugins import build
from llmrl.run_folder.writer import Logs
from llmrl.types import Score
from tests.builders import episodes
from tests.felt.probe import Options, Probe

TINY: Options = {"split": "tiny"}
ARITHMETIC: Options = {"name": "arithmetic", "high": 9}
HUMANEVAL = {
    "task_id": "H/0",
    "prompt": "def f():\n",
    "canonical_solution": "    return 1\n",
    "test": "def check(f):\n    assert f() == 1\n",
    "entry_point": "f",
}
MBPP = {
    "task_id": 11,
    "text": "Write f.",
    "code": "def f(): return 1",
    "test_list": ["assert f() == 1", "assert f() < 2"],
    "challenge_test_list": ["assert f() > 0"],
    "split": "test",
}
CONTEST = {
    "question_content": "Add.",
    "public_test_cases": json.dumps([{"input": "1 2", "output": "3", "testtype": "stdin"}]),
    "private_test_cases": "[]",
    "starter_code": "",
}
SWE = {"instance_id": "a__b-1", "problem_statement": "It fails.", "patch": "--- a"}
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
    return competitions | _made() | _of_others() | _found() | _of_files()


def _in_a_folder(file: str, *rows: Any, base: Options, values: Options) -> list[Probe]:
    """Probes of a dataset whose file lies where all data sets do, of a file of one row, and of this file."""
    root = Path(mkdtemp(prefix="felt-data-"))
    (root / file).parent.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (root / file).write_bytes(gzip.compress(text) if file.endswith(".gz") else text)

    def found(dataset: Any) -> Any:
        with patch.dict(os.environ, {"LLMRL_DATA": str(root)}):
            return use(dataset)

    return [Probe(use=found, base=base, values={"path": [written(rows[0])], **values})]


def first_of(name: str) -> str:
    """A file with the first of the rows that ship of a dataset."""
    path = Path(mkdtemp(prefix="felt-")) / "rows.jsonl"
    path.write_text(tiny(name).read_text().splitlines(keepends=True)[0])
    return str(path)


def games(*names: str) -> str:
    """A folder with files of these names."""
    folder = Path(mkdtemp(prefix="felt-"))
    for name in names:
        (folder / name).touch()
    return str(folder)


def played(*texts: str) -> str:
    """The file of a run that judged these answers."""
    folder = Path(mkdtemp(prefix="felt-"))
    group = [replace(one, score=Score(1.0, "correct")) for one in episodes(*texts)]
    Logs(folder, writes=True, share=1.0).rollouts(0, [group], [])
    return str(folder / "rollouts.jsonl")


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
        "data outcomes": [Probe(use=use, base={"path": played("4")}, values={"path": [played("4", "5")]})],
        "data perturbed": [
            Probe(
                use=use,
                base={"of": {**ARITHMETIC, "count": 3}},
                values={"of": [{**ARITHMETIC, "count": 2}], "templates": [{"loud": "{prompt}!"}]},
            )
        ],
        "data textworld": [Probe(use=use, base={"folder": games("a.z8")}, values={"folder": [games("b.z8")]})],
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
        "data swe": [
            Probe(use=use, base=TINY, values={"system": [False], "path": [first_of("swe")], "split": []}),
            Probe(use=use, base=TINY, values={"split": ["train"]}, only=True, refusals=True),
        ],
    }


def _found() -> dict[str, list[Probe]]:
    return {
        "data humaneval": _in_a_folder("humaneval/HumanEval.jsonl", HUMANEVAL, base=TINY, values={"split": ["test"]}),
        "data mbpp": [
            *_in_a_folder("mbpp/mbpp.jsonl", MBPP, base=TINY, values={"split": ["test"], "shown_tests": [2, 3, 0]}),
            Probe(use=use, base={"path": written(MBPP), "split": "test"}, values={"challenge": [True]}, only=True),
        ],
        "data livecodebench": _in_a_folder(
            "livecodebench/test.jsonl",
            *({**CONTEST, "question_id": str(month), "contest_date": f"2024-0{month}-01T00:00:00"} for month in (1, 8)),
            base={},
            values={"since": ["2024-05-01"], "until": ["2024-05-01"], "split": []},
        ),
        "data swe_bench": [
            replace(probe, refusals=True)
            for probe in _in_a_folder("swebench/lite_test.jsonl.gz", SWE, base={}, values={"subset": ["verified"]})
        ],
    }


def _of_files() -> dict[str, list[Probe]]:
    rows = [{"q": "a?", "question": "b?", "answer": "1", "gold": "2", "id": "x", "key": "y", "photo": "p"}]
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
                    "image_column": ["photo"],
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
            ),
            Probe(
                use=counted,
                base={"of": {**ARITHMETIC, "count": 9}, "records": others},
                values={"missing": ["drop"]},
                only=True,
                refusals=True,
            ),
        ],
    }
