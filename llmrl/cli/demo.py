"""Make a small model from nothing and improve it by RL, in minutes on two CPU cores: `llmrl demo`.

It makes a tokenizer and a random model, fine-tunes it until it sometimes adds two numbers right, and trains it by
`recipes/demo.yaml` in the same loop as every other recipe. Greedy accuracy on the benchmark `arithmetic`, held-out
sums, is measured before and after.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from annotated_types import Ge, Le

from llmrl import plugins, tiny
from llmrl.cli.endings import stopped_by_signals
from llmrl.cli.next_steps import after_demo
from llmrl.errors import CheckpointError, TrainingError
from llmrl.recipe import Recipe, read
from llmrl.run_folder import libraries, lock, reader
from llmrl.run_folder.command import program
from llmrl.run_folder.lock import FolderLock
from llmrl.run_folder.records import ROLLOUTS
from llmrl.types import Problem, is_correct

BENCHMARK = "arithmetic"
DATA = {"name": "arithmetic", "low": 10}  # of the recipe and of the benchmark
TARGET = 0.4  # accuracy that ends fine-tuning: reinforcement learning needs a policy that sometimes succeeds
Target = Annotated[float, Ge(0), Le(0.9)]
"""Beyond it fine-tuning would leave nothing to learn, if it ever got there."""
CHECK_STEPS = 5  # of fine-tuning between two looks at its accuracy, which rises from 30 to 60 % within 20
MAX_SFT_STEPS = 1500  # 300 to 400 are usual
MARKER = ".llmrl-demo"  # of folders that the next demo may replace
Say = Callable[[str], None]


def run(
    seed: int = 0,
    quiet: bool = False,
    out: str | Path = "runs/demo",
    target: float = TARGET,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the demo, and return its results; writes `out/results.json`, the model `out/final` and `out/curves.png`.

    Args:
        seed: of the weights, the order of the problems and the samples.
        quiet: plain lines instead of a live view; so too where there is no terminal.
        out: a folder; one that an earlier demo has made is replaced.
        target: accuracy that ends fine-tuning, 0 to 0.9.
        overrides: of the recipe, such as `train.max_steps=100`.
    Returns:
        `before` and `after`, each with `accuracy`, `low` and `high` (95 % bootstrap interval over 500 problems);
        `seconds` by phase; `sft_steps`, `seed`, and three `samples`.
    Raises:
        CheckpointError: `out` is a folder that no demo has made, or in which one is at work.
        TrainingError: fine-tuning did not reach the target.
        EngineError: vLLM does not start.
    """
    with ExitStack() as stack:
        claimed = _claim(Path(out), stack)
        libraries.keep_in(claimed)
        return _run(seed, quiet, claimed, target, overrides)


def _run(seed: int, quiet: bool, out: Path, target: float, overrides: Sequence[str]) -> dict[str, Any]:
    """Run the phases of the demo in a folder that is its own."""
    from llmrl.train.epochs import in_steps

    seconds: dict[str, float] = {}
    with _phase("1/4 a tokenizer and a random model", "build", seconds):
        base = tiny.make(out / "random", vocab="arithmetic", seed=seed)
    with _phase(f"2/4 supervised fine-tuning on sums, until {target:.0%} are right", "sft", seconds):
        sft_steps = fine_tune(base, out / "sft", seed, quiet, target)
    recipe = in_steps(read(Path(str(files("llmrl.recipes"))) / "demo.yaml", [*overrides, *_overrides(out, seed)]))
    before, after = _reinforce(recipe, out, quiet, seconds)
    seconds["total"] = sum(seconds.values())
    results = {
        "seed": seed,
        "before": before,
        "after": after,
        "gain": after["accuracy"] - before["accuracy"],
        "seconds": {phase: round(taken, 1) for phase, taken in seconds.items()},
        "sft_steps": sft_steps,
        "samples": _samples(*(_answers(out, step) for step in (0, recipe.train.max_steps))),
    }
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _draw(out, before["accuracy"], after["accuracy"])
    _report(results, out)
    return results


def fine_tune(base: Path, out: Path, seed: int, quiet: bool, target: float) -> int:
    """Fine-tune until the model in `out` gets the target share of unseen sums right; returns the number of steps.

    Raises:
        TrainingError: it never did.
    """
    from llmrl.train.sft import sft

    train = plugins.build("data", DATA | {"seed": seed}).problems()
    rows = [{"prompt": each.messages, "completion": [{"role": "assistant", "content": each.answer}]} for each in train]
    # behind the 500 of the benchmark, so that the decision to stop has not seen them
    unseen = list(plugins.build("data", DATA | {"split": "heldout", "count": 756}).problems())[500:]
    reached: list[int] = []
    with _watch(quiet, target) as show:
        accuracy = greedy_accuracy(base, unseen)

        def progress(step: int, loss: float, model: Any) -> bool:
            if step % CHECK_STEPS:
                return False
            right = accuracy(model)
            show(step, loss, right)
            if right >= target:
                reached.append(step)
            return right >= target

        sft(base, rows, out, max_steps=MAX_SFT_STEPS, learning_rate=1e-3, batch_size=64, warmup_steps=50, seed=seed,
            progress=progress)  # fmt: skip
    if not reached:
        raise TrainingError(
            f"fine-tuning: {MAX_SFT_STEPS} steps and still below {target:.0%} right; try another --seed"
        )
    return reached[0]


def greedy_accuracy(folder: Path, problems: Sequence[Problem]) -> Callable[[Any], float]:
    """Make a function of the model: the share of problems whose reference answer is the most likely, token by token.

    Greedy decoding gives the answer exactly if each of its tokens is the most likely after those before: one forward
    pass decides all problems.
    """
    import torch

    from llmrl.chat import Chat, load_tokenizer

    chat = Chat(load_tokenizer(str(folder)))
    end = chat.tokenizer.eos_token_id
    prompts = [chat.prompt_ids(problem.messages) for problem in problems]
    answers = [[*chat.tokenizer.encode(problem.answer, add_special_tokens=False), end] for problem in problems]
    width = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    ids = torch.zeros(len(problems), width, dtype=torch.long)
    asked = torch.zeros(len(problems), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        asked[row, len(prompt) : len(prompt) + len(answer)] = True

    def accuracy(model: Any) -> float:
        with torch.no_grad():
            likeliest = model(input_ids=ids.to(model.device)).logits[:, :-1].argmax(-1).cpu()
        return float(((likeliest == ids[:, 1:]) | ~asked[:, 1:]).all(1).float().mean())

    return accuracy


def _reinforce(recipe: Recipe, out: Path, quiet: bool, seconds: dict[str, float]) -> list[dict[str, float]]:
    """Train by the recipe; accuracy before and after its steps, both by the engine that samples in between.

    A signal ends the process in the midst of the steps, with a checkpoint of them.
    """
    from llmrl.run_folder.progress import Progress
    from llmrl.train.loop import train
    from llmrl.train.run import Run
    from llmrl.train.stopping import Stopping

    steps, go_on = recipe.train.max_steps, f"go on with: {program()} train {quote(str(out / 'recipe.yaml'))} --resume"
    with stopped_by_signals(go_on), Stopping() as stopping, Progress(steps, quiet=quiet, title="grpo") as progress:
        with _phase("3/4 start vLLM; held-out accuracy before", "before", seconds):
            trained = Run(recipe, on_step=progress.step, stopping=stopping)
        with trained:
            with _phase("", "before", seconds):
                trained.evaluation(0)
            with _phase(f"4/4 reinforcement learning: {steps} steps of GRPO", "grpo", seconds):
                train(trained)
            with _phase("", "after", seconds):
                trained.evaluation(steps)  # the loop has evaluated already, unless an override switched that off
    return [_accuracy(_answers(out, step) / "results.json") for step in (0, steps)]


def _answers(out: Path, step: int) -> Path:
    return out / "eval" / f"step-{step:06d}"


def _accuracy(path: Path) -> dict[str, float]:
    estimate = json.loads(path.read_text(encoding="utf-8"))[BENCHMARK]["metrics"]["avg@1"]
    return {"accuracy": estimate["value"], "low": estimate["low"], "high": estimate["high"]}


def _overrides(out: Path, seed: int) -> list[str]:
    where = {"model.policy": out / "sft", "train.output_dir": out.parent, "train.run_name": out.name}
    return [
        f"data.seed={seed}",
        f"train.seed={seed}",
        *(f"{key}={json.dumps(str(path))}" for key, path in where.items()),
    ]


def _claim(out: Path, stack: ExitStack) -> Path:
    """Lock the output folder until the stack closes, and empty it where an earlier demo has made it.

    Raises:
        CheckpointError: no demo has made what is there, or one, or a run, is at work there.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise CheckpointError(f"{out}: holds files that no demo has made; choose another folder with --out")
    instead = "choose another folder with --out"
    stack.enter_context(FolderLock(out, instead, MARKER))
    with FolderLock(out, instead):  # a run may go on in the folder of a demo
        for path in out.iterdir():
            if path.name in (MARKER, lock.FILE):
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return out


@contextmanager
def _phase(title: str, name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Announce a phase and add its seconds."""
    if title:
        print(title, flush=True)
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


@contextmanager
def _watch(quiet: bool, target: float) -> Iterator[Callable[[int, float, float], None]]:
    """Show fine-tuning on its way to the target: a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    def line(step: int, loss: float, accuracy: float) -> None:
        if step % 50 == 0 or accuracy >= target:
            print(f"sft step {step}  loss {loss:.3f}  accuracy {accuracy:.3f}", flush=True)

    if quiet or not Console().is_terminal:
        yield line
        return
    with Progress(TextColumn("sft {task.fields[numbers]}"), BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=target, numbers="starting")
        yield lambda step, loss, accuracy: bar.update(
            task, completed=accuracy, numbers=f"step {step}  loss {loss:.3f}  accuracy {accuracy:.3f}"
        )


def _samples(*folders: Path, count: int = 3) -> list[dict[str, str]]:
    """Pick held-out problems that only the trained model solves, with both answers; others where there are too few."""
    lines = ((folder / f"{BENCHMARK}.jsonl").read_text(encoding="utf-8").splitlines() for folder in folders)
    before, after = ({record["problem"]: record for record in map(json.loads, each)} for each in lines)
    learnt = [key for key in after if is_correct(after[key]["verdict"]) and not is_correct(before[key]["verdict"])]
    return [
        {
            "question": str(after[key]["prompt"][-1]["content"]),
            "before": str(before[key]["completion"]),
            "after": str(after[key]["completion"]),
            "answer": str(after[key]["answer"]),
        }
        for key in [*learnt, *(key for key in after if key not in learnt)][:count]
    ]


def _draw(out: Path, before: float, after: float) -> None:
    """Draw curves.png: the reward of each step, and accuracies: of samples, and of greedy held-out answers."""
    from matplotlib.figure import Figure

    records = list(reader.steps(out))
    steps = [record.step + 1 for record in records]
    key = f"eval/{BENCHMARK}/avg@1"
    evaluated = {record.step + 1: record.metrics[key] for record in records if key in record.metrics}
    held_out = {0: before} | evaluated | {steps[-1]: after}
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [record.metrics["reward"] for record in records])
    left.set(title="Reward", xlabel="step of GRPO", ylabel="mean reward of 512 samples")
    right.plot(steps, [record.metrics["accuracy"] for record in records], alpha=0.6, label="training problems, sampled")
    right.plot(list(held_out), list(held_out.values()), "o-", label="held-out problems, greedy")
    right.set(title="Accuracy", xlabel="step of GRPO", ylabel="share of right answers", ylim=(0, 1))
    right.legend(loc="lower right")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(out / "curves.png", dpi=120)


def _report(results: Mapping[str, Any], out: Path) -> None:
    """Print the tables, and the commands to try next."""
    from rich.console import Console
    from rich.table import Table

    scores = Table("", "greedy accuracy on held-out sums", "95 % interval")
    for name, label in (("before", "before: fine-tuned"), ("after", "after GRPO")):
        result = results[name]
        scores.add_row(label, f"{result['accuracy']:.1%}", f"{result['low']:.1%} to {result['high']:.1%}")
    answers = Table("question", "before", "after", "right answer")
    for sample in results["samples"]:
        answers.add_row(*(sample[name] for name in ("question", "before", "after", "answer")))
    console = Console()
    console.print(scores, answers)
    taken = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in results["seconds"].items())
    print(f"""seconds: {taken}
curves: {out / "curves.png"}   numbers: {out / "results.json"}   every answer: {out / ROLLOUTS}
{after_demo(out, BENCHMARK)}""")
