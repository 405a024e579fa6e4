"""WebRL in three phases on MiniWoB++ in real Chromium, by a tiny model on a CPU.

    python benchmarks/webrl.py --seeds 3 --out docs/results/webrl.json

A model of 2 layers and 128 dimensions imitates a scripted player of whose moves a share is random; then
recipes/tiny/miniwob_webrl.yaml trains it, once for each seed. Success is that of episodes sampled at temperature 1 on
pages that nobody trained on. The file has every run, and a picture beside it the phases. What is
there already is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import over_seeds
import yaml
from over_seeds import ROOT

from llmrl import plugins, tiny
from llmrl.browser.host import host
from llmrl.browser.players import Oracle, RandomPlayer, written
from llmrl.evaluation.statistics import difference, estimate
from llmrl.protocols import Benchmark
from llmrl.recipe import tree
from llmrl.run_folder.records import file_name
from llmrl.types import Problem, Sampling

RECIPE = ROOT / "recipes/tiny/miniwob_webrl.yaml"
STAGES = {stage["name"]: stage for stage in tree(RECIPE)["stages"]}
PHASE: Mapping[str, Any] = STAGES["phase1"]["train"]
TASKS: Sequence[str] = PHASE["data"]["tasks"]
PHASES = 3
FIRST = 100_000
"""Seed of the first page that the scripted player shows: nobody trains on it afterwards."""
SHOWN = ("click-button", *TASKS, "choose-list")
"""Tasks that the scripted player shows: more than are trained, so that such a model learns none of them well."""
DEMONSTRATED = 60  # pages of each
RANDOM_SHARE = 0.2  # of the scripted player's moves
IMITATION_STEPS = 200
HELDOUT = Benchmark(
    data={**PHASE["data"], "seeds": 24, "split": "test"},
    env=PHASE["env"],
    max_turns=PHASE["rollout"]["max_turns"],
    reward=PHASE["reward"],
    sampling=Sampling(temperature=1.0, max_tokens=PHASE["rollout"]["max_completion_length"]),
    by=("task",),
    about="pages of the tasks of recipes/tiny/miniwob_webrl.yaml, on which nobody trains",
)
NAME = "benchmarks.webrl:HELDOUT"


async def demonstrated(pages: Sequence[Problem]) -> list[dict[str, Any]]:
    """Turns of the scripted player, a row each: the prompt as the environment shows it, and the action."""
    factory, chance, rows = plugins.build("env", PHASE["env"]), Random("demonstrations/0"), []
    for page in pages:
        episode, noise = factory.make(page), RandomPlayer(chance.randrange(2**32))
        seen = await episode.reset()
        messages = list(seen.messages)
        while not seen.done:
            player = noise if chance.random() < RANDOM_SHARE else Oracle()
            text = written(player.act(episode, await episode.look()), "calls")
            rows.append({"prompt": messages, "completion": text})
            seen = await episode.step({"role": "assistant", "content": text})
            messages = list(seen.messages)
        await episode.close()
    await host().run(host().browser.close())
    return rows


def started(work: Path) -> Path:
    """The folder of a model that has imitated the scripted player."""
    rows, model = work / "rows.jsonl", work / "model"
    if not rows.exists():
        pages = plugins.build("data", {**PHASE["data"], "tasks": SHOWN, "first": FIRST, "seeds": DEMONSTRATED})
        lines = [json.dumps(row) for row in asyncio.run(demonstrated(list(pages.problems())))]
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not model.exists():
        tiny.make(model, hidden=128, layers=2)
    run = {
        **{key: PHASE[key] for key in ("env", "engine", "rollout")},
        "model": {"policy": str(model)},
        "algorithm": {"name": "bc"},
        "source": {"name": "offline", "path": str(rows)},
        "train": {"max_steps": IMITATION_STEPS, "learning_rate": 3e-3, "lr_scheduler_type": "linear"},
    }
    return trained(run, work / "start", seed=0) / "final"


def trained(run: dict[str, Any], folder: Path, seed: int) -> Path:
    """The folder of a run, trained unless it is there already."""
    if not (folder / "final" / "config.json").exists():
        run["train"] = {**PHASE["train"], **run["train"], "seed": seed}
        run["train"] |= {"output_dir": str(folder.parent), "run_name": folder.name}
        resume = ["--resume"] if (folder / "checkpoints").exists() else []
        llmrl(run, folder.with_suffix(".yaml"), *resume)
    return folder


def evaluated(every: int, on_start: bool = False) -> dict[str, Any]:
    """Section `eval` of a run."""
    return {"every": every, "on_start": on_start, "benchmarks": [NAME]}


def phased(seed: int, start: Path, work: Path) -> Path:
    """The folder of the recipe's stages from a start, run unless they are there already; each phase is evaluated."""
    folder = work / f"webrl-{seed}"
    stages = json.loads(json.dumps(tree(RECIPE)["stages"]))  # without what YAML shares between them
    stages[0]["train"]["model"]["policy"] = str(start)
    for stage in stages:
        if "tasks" in stage:
            stage["tasks"]["seed"] += 10 * seed
        else:
            stage["train"]["eval"] = evaluated(PHASE["train"]["max_steps"], on_start=stage is stages[0])
            stage["train"]["train"]["seed"] = seed
    values = {"stages": stages, "output_dir": str(work), "run_name": folder.name}
    log = llmrl(values, folder.with_suffix(".yaml"))
    with folder.with_suffix(".log").open("a", encoding="utf-8") as file:
        file.write(log)
    return folder


def llmrl(values: Mapping[str, Any], path: Path, *flags: str) -> str:
    """Write a recipe, train it in a process of its own, and return its output."""
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "llmrl", "train", str(path), "--quiet", *flags]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            output = child.communicate()[0]
        except BaseException:
            child.terminate()  # it saves, and ends its own processes
            raise
    if child.returncode:
        raise SystemExit(f"{path}: llmrl train ended with {child.returncode}; its last lines say why")
    return output


def successes(run: Path, step: int) -> dict[str, float]:
    """Held-out pages and 1.0 where the run solved them after so many steps, else 0.0."""
    file = run / "eval" / f"step-{step:06d}" / f"{file_name(NAME)}.jsonl"
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {record["problem"]: float(record["verdict"] == "correct") for record in records}


def phases(folder: Path) -> Iterator[dict[str, Any]]:
    """Numbers of each phase's run: its tasks, its episodes, its critic, and the tasks made of its failures."""
    counts = re.findall(r"^tasks: (.+)$", folder.with_suffix(".log").read_text(encoding="utf-8"), re.MULTILINE)
    for number in range(1, PHASES + 1):
        lines = [json.loads(line) for line in (folder / f"phase{number}/metrics.jsonl").read_text().splitlines()]
        made = counts[number - 1] if number <= len(counts) else ""
        yield {
            "sampled_success": [line["webrl/success"] for line in lines],
            "brier": [line["webrl/brier"] for line in lines],
            "auc": [line.get("webrl/auc") for line in lines],
            "replayed": [line.get("webrl/replayed") for line in lines],
            "log_ratio": [line.get("log_ratio") for line in lines],
            "seconds": sum(line["step_time"] for line in lines),
            "tasks": {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", made)},
        }


def measure(work: Path, seed: int) -> dict[str, Any]:
    """Success of the start and of a seed's phases by page, and numbers of these."""
    start, last = started(work), PHASE["train"]["max_steps"]
    folder = phased(seed, start, work)
    solved = {"start": successes(folder / "phase1", 0)}
    solved |= {f"phase{n}": successes(folder / f"phase{n}", last) for n in range(1, PHASES + 1)}
    return {"seed": seed, "solved": solved, "phases": list(phases(folder))}


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Success of each policy over pages, and its gain over the start, each page the mean over seeds."""
    by_page = {
        policy: {page: fmean(each["solved"][policy][page] for each in results) for page in pages}
        for policy, pages in results[0]["solved"].items()
    }
    return {
        policy: {
            "success": estimate(list(pages.values())).as_dict(),
            "gain": difference(pages, by_page["start"]).as_dict(),
            "seeds": [fmean(each["solved"][policy].values()) for each in results],
            "tasks": {task: fmean(v for page, v in pages.items() if f"/{task}/" in page) for task in TASKS},
        }
        for policy, pages in by_page.items()
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The figures of all seeds as Markdown."""
    lines = [f"| policy | success | gain | by seed | {' | '.join(TASKS)} |", "|---" * (len(TASKS) + 4) + "|"]
    for policy, row in summary(results).items():
        success = "{value:.2f} ({low:.2f} to {high:.2f})".format(**row["success"])
        gain = "" if policy == "start" else "{value:+.2f} ({low:+.2f} to {high:+.2f})".format(**row["gain"])
        seeds = ", ".join(f"{value:.2f}" for value in row["seeds"])
        cells = [policy, success, gain, seeds, *(f"{row['tasks'][task]:.2f}" for task in TASKS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """Draw success by phase, of all tasks with its interval and of each task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    panel = figure.subplots()
    for task in TASKS:
        panel.plot([rows[name]["tasks"][task] for name in rows], lw=1, alpha=0.7, label=task)
    for place, name in enumerate(rows):
        value, low, high = (rows[name]["success"][key] for key in ("value", "low", "high"))
        panel.errorbar(place, value, [[value - low], [high - value]], fmt="ko", capsize=4)
    panel.plot([rows[name]["success"]["value"] for name in rows], "k", lw=2, label="all")
    panel.set_xticks(range(len(rows)), rows)
    panel.set(ylim=(0, 1), ylabel="success on held-out pages", title="WebRL by phases, MiniWoB++ in Chromium")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def keep(results: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write every run behind the summary, a run a line, and the picture."""
    rows, runs = summary(results), ",\n".join(map(json.dumps, results))
    text = f'{{"summary": {json.dumps(rows, indent=1)},\n"runs": [\n{runs}\n]}}\n'
    out.with_suffix(".json").write_text(text, encoding="utf-8")
    draw(rows, out.with_suffix(".png"))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # as an exception, which ends the runs
    over_seeds.run(__doc__, "webrl", measure, table, seeds=3, keep=keep)
