"""Predicted against measured memory: `python benchmarks/plan.py`, `--json FILE`, `--only NAME`.

Recipes of random models are planned, and run for two steps, each in a process of its own. Compared is the growth of the
resident set from the end of a run of a model of 0.1M, with which everything is imported, to its peak; reward workers
are other processes. The first five are those by which the estimate was corrected, the others were run afterwards.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROWS = 64
ROLLOUT = {"num_generations": 8, "prompts_per_step": 4, "max_prompt_length": 128, "reward_workers": 1}
PLAYED = {
    "data": {"name": "arithmetic", "high": 99},
    "reward": {"name": "numeric"},
    "engine": {"name": "hf"},
    "rollout": {**ROLLOUT, "max_completion_length": 64},
}
STORED = {"source": {"name": "offline", "path": "rows.jsonl"}, "rollout": {**ROLLOUT, "max_prompt_length": 256}}
LORA = {"use_peft": True, "lora_r": 16}
CASES: dict[str, dict[str, Any]] = {
    "grpo, 25M": {"model": (512, 8), **PLAYED, "algorithm": {"name": "grpo", "beta": 0.01}},
    "ppo, 25M": {"model": (512, 8), **PLAYED, "algorithm": {"name": "ppo", "kl_coef": 0.05}},
    "grpo with LoRA, 85M": {
        "model": (768, 12),
        "more": LORA,
        **PLAYED,
        "algorithm": {"name": "grpo", "beta": 0.01},  # without it equal rewards, as of a random model, train nothing
    },
    "bc, 134M": {
        "model": (1024, 11),
        **STORED,
        "algorithm": {"name": "bc"},
        "rollout": {"prompts_per_step": 16, "max_prompt_length": 256, "max_completion_length": 256},
    },
    "dpo, checkpointed, 85M": {
        "model": (768, 12),
        **STORED,
        "algorithm": {"name": "preference"},
        "train": {"gradient_checkpointing": True},
        "rollout": {"prompts_per_step": 8, "max_prompt_length": 256, "max_completion_length": 256},
    },
    "grpo, checkpointed, 50M": {
        "model": (640, 10),
        **PLAYED,
        "algorithm": {"name": "grpo", "beta": 0.01},
        "train": {"gradient_checkpointing": True},
    },
    "ppo with long answers, 60M": {
        "model": (768, 8),
        **PLAYED,
        "algorithm": {"name": "ppo", "kl_coef": 0.05},
        "rollout": {**ROLLOUT, "max_completion_length": 256},
    },
    "bc with LoRA, 134M": {
        "model": (1024, 11),
        "more": LORA,
        **STORED,
        "algorithm": {"name": "bc"},
        "rollout": {"prompts_per_step": 8, "max_prompt_length": 256, "max_completion_length": 256},
    },
}


def resident() -> dict[str, int]:
    """Bytes that this process holds now and held at most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def recipe_of(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The recipe of a case; its model and rows are written where they are missing."""
    from llmrl import tiny

    hidden, layers = case["model"]
    model = folder / f"model-{hidden}-{layers}"
    if not model.exists():
        tiny.make(model, hidden=hidden, layers=layers)
    rows = folder / "rows.jsonl"
    if not rows.exists():
        text = "".join(chr(97 + i % 26) for i in range(200))
        pairs = [{"prompt": text[i : i + 100], "chosen": text[:200], "rejected": text[20:200]} for i in range(ROWS)]
        answers = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in pairs]
        rows.write_text("".join(json.dumps(row) + "\n" for row in pairs))
        (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    values = {name: value for name, value in case.items() if name not in ("model", "more", "train", "source")}
    if "source" in case:
        name = "answers.jsonl" if case["algorithm"]["name"] == "bc" else "rows.jsonl"
        values["source"] = {"name": "offline", "path": str(folder / name)}
    values["model"] = {"policy": str(model), **case.get("more", {})}
    values["train"] = {
        "max_steps": 2,
        "save_steps": 0,
        "output_dir": str(folder),
        "report_to": "none",
        "learning_rate": 1e-5,
        **case.get("train", {}),
    }
    return values


def plan_one(name: str, folder: Path) -> dict[str, Any]:
    """Plan a case: bytes by part."""
    from llmrl.planning.run import plan
    from llmrl.recipe import parse

    found = plan(parse(recipe_of(CASES[name], folder)))
    return {"parameters": found.facts.parameters, "parts": dict(found.here), "predicted": found.peak}


def run_one(name: str, folder: Path) -> dict[str, Any]:
    """Run a case; bytes by which this process grew."""
    from llmrl.recipe import parse
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    for case, run_name in ((CASES[name] | {"model": (64, 2)}, "first"), (CASES[name], "second")):
        gc.collect()
        before = resident()["VmRSS"]
        with Run(parse(recipe_of(case, folder)), name=run_name) as run:
            train(run)
    return {"measured": resident()["VmHWM"] - before, "before": before}


def main() -> None:
    """Plan and run each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", choices=("plan_one", "run_one"))
    given = parser.parse_args()
    if given.child:
        print("RESULT " + json.dumps(globals()[given.child](given.only, given.folder)))
        return
    results = {}
    for name in CASES if given.only is None else [given.only]:
        with tempfile.TemporaryDirectory() as folder:
            found: dict[str, Any] = {}
            for child in ("plan_one", "run_one"):
                command = [sys.executable, __file__, "--child", child, "--only", name, "--folder", folder]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
                if not lines:
                    raise SystemExit(f"{name}: {child}: {done.stderr[-3000:]}")
                found |= json.loads(lines[-1].removeprefix("RESULT "))
        found["error"] = found["predicted"] / found["measured"] - 1
        results[name] = found
        mb = {key: round(found[key] / 1e6) for key in ("predicted", "measured")}
        print(
            f"{name}: predicted {mb['predicted']} MB, measured {mb['measured']} MB, {found['error']:+.1%}", flush=True
        )
        if given.json is not None:
            given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
