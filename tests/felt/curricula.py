"""Curricula: weights of problems after pass rates that came and went."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl.types import Problem
from tests.felt.probe import Probe

PROBLEMS = [
    Problem(
        id=f"p{i}",
        messages=[{"role": "user", "content": "?" * (1 + i)}],
        info={
            "difficulty": i / 10,
            "other": (i * 7 % 20) / 5,
            "level": i // 5,
            "family": f"f{i // 5}",
            "kind": f"k{i % 2}",
        },
    )
    for i in range(20)
]


def use(factory: Any) -> Any:
    """Weights and metrics over forty steps of a policy that learns the easy ones first."""
    curriculum, told = factory.start(PROBLEMS), [factory.random_share]
    for step in range(40):
        drawn = [(step * 3 + k) % 20 for k in range(6)]
        rates = [(i, max(0.0, min(1.0, (step - i) / 12))) for i in drawn]
        told += [curriculum.observe(rates), curriculum.weights()]
    return told


RATE = "pass_rate"


def records(skew: int = 1) -> str:
    """Earlier outcomes of each problem, as an evaluation writes them."""
    path = Path(mkdtemp(prefix="felt-")) / "records.jsonl"
    told = ("correct", "wrong")
    lines = [
        {"problem": f"p{i}", "verdict": told[(i * skew + k) % (2 + skew) > i % 3], "value": 1.0}
        for i in range(20)
        for k in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def probes() -> dict[str, list[Probe]]:
    kept, others = {"records": [records()]}, {"records": [records(7)]}
    return {
        "curriculum alp_bins": [
            Probe(use=use, base={"bins": 4}, values={"feature": ["other"]}),
            Probe(use=use, base={"bins": 4, "feature": RATE, "records": records()}, values=others, only=True),
        ],
        "curriculum alp_gmm": [
            Probe(
                use=use,
                base={"fit_every": 60, "max_components": 6, "history": 240, "features": ["other"]},
                values={"features": [["difficulty"]], "history": [60], "max_components": [2]},
            ),
            Probe(
                use=use,
                base={"fit_every": 12, "max_components": 3, "history": 240, "features": ["other"]},
                values={"history": [12]},
                only=True,
            ),
            Probe(use=use, base={"fit_every": 60, "features": [RATE], "records": records()}, values=others, only=True),
        ],
        "curriculum levels": [Probe(use=use, base={"window": 10}, values={"key": ["difficulty"], "threshold": [0.3]})],
        "curriculum mbtl": [
            Probe(
                use=use,
                base={"family": "family", "features": ["difficulty"], "stage_steps": 5},
                values={"family": ["kind"], "features": [["other"]], "slope": [0.5], "stage_steps": [7]},
            ),
            Probe(
                use=use,
                base={"family": "family", "features": [RATE], "stage_steps": 5, "records": records()},
                values=others,
                only=True,
            ),
        ],
        "curriculum pass_rate_window": [Probe(use=use, values={**kept, "low": [0.4], "high": [0.6]})],
        "curriculum qarl": [Probe(use=use, base={"by": "level", "window": 8}, values={"by": ["family"]})],
    }
