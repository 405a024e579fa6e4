"""The command line. What is refused is one message on standard error; a traceback is a bug."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from llmrl import __version__
from llmrl.errors import LlmrlError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at datasets.")
app.add_typer(data_app, name="data")
recipes_app = typer.Typer(rich_markup_mode=None, help="The recipes that ship, one path a line with its first comment.")
app.add_typer(recipes_app, name="recipes")


def main() -> None:
    """Run the command line; exit code 1 where something is refused, 130 after ctrl-C."""
    # Before torch is loaded: threads that spin while they wait take cores that somebody else, such as a grader, could
    # use (benchmarks/cpu.py waiting --busy 1).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except LlmrlError as error:
        print(f"llmrl: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"llmrl {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Post-training and reasoning RL for language models."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A YAML file; `llmrl recipes` lists those that ship.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, such as train.seed=1")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Plain lines instead of a live view.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe, print it resolved, and stop.")] = False,
) -> None:
    """Train by a recipe, alone or under `accelerate launch -m llmrl train ...`."""
    from llmrl import recipe as recipes

    made = recipes.read(recipe, [*(overrides or ()), *context.args])
    recipes.check(made, str(recipe))
    if dry_run:
        import yaml

        print(yaml.safe_dump(made.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return
    from llmrl.train.loop import train as take_steps
    from llmrl.train.progress import Progress
    from llmrl.train.run import Run

    with (
        Progress(made.train.max_steps, quiet=quiet) as progress,
        Run(made, resume=resume, name=recipe.stem, on_step=progress.step, on_sample=progress.sample) as run,
    ):
        take_steps(run)
    if run.accelerator.is_main_process:
        print(f"model: {run.folder / 'final'}\nnext: llmrl eval {run.folder / 'final'} --benchmarks gsm8k")


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="A folder, a hub name, or http://host:port/v1 of a running server.")],
    benchmarks: Annotated[str, typer.Option(help="Names, with commas: gsm8k,math500")],
    samples: Annotated[
        int | None, typer.Option(help="Completions per problem; the benchmark's own by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first problems only.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    temperature: Annotated[float | None, typer.Option(help="The benchmark's own by default.")] = None,
    top_p: Annotated[float | None, typer.Option(help="The benchmark's own by default.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of a completion.")] = None,
    engine: Annotated[str, typer.Option(help="vllm, server or hf.")] = "vllm",
    dtype: Annotated[str | None, typer.Option(help="The checkpoint's own by default.")] = None,
    system_prompt: Annotated[str | None, typer.Option(help="For conversations without one.")] = None,
    served_model: Annotated[str, typer.Option(help="Of a server that serves several.")] = "",
    api_key: Annotated[str | None, typer.Option(help="For a server; OPENAI_API_KEY by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where results go; a second call there goes on.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No table and no progress.")] = False,
) -> None:
    """Ask a model the problems of benchmarks; a call that was stopped goes on where it was."""
    from llmrl.eval._run import EvalSetup, Plan, run

    plan = Plan(samples=samples, limit=limit, seed=seed, temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    setup = EvalSetup(
        engine=engine, dtype=dtype, system_prompt=system_prompt, served_model=served_model, api_key=api_key
    )
    names = [name.strip() for name in benchmarks.split(",") if name.strip()]
    folder = out or Path("runs") / "eval" / model.rstrip("/").replace("://", "-").replace("/", "-").lstrip("-.")
    run(model, names, folder, plan, setup, quiet=quiet)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    lora: Annotated[list[str] | None, typer.Option(help="An adapter, NAME=FOLDER; may be given again.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 is every network: set --api-key then.")] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8000,
    api_key: Annotated[str | None, typer.Option(help="What clients must send.")] = None,
    served_model_name: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    dtype: Annotated[str, typer.Option()] = "auto",
    max_model_len: Annotated[int | None, typer.Option(help="Tokens of prompt and completion.")] = None,
) -> None:
    """Put a checkpoint behind vLLM's OpenAI-compatible server until ctrl-C; further options go to vLLM."""
    from llmrl.serve.vllm import serve as run

    code = run(
        checkpoint,
        lora=lora or (),
        host=host,
        port=port,
        api_key=api_key,
        served_model_name=served_model_name,
        dtype=dtype,
        max_model_len=max_model_len,
        server_args=context.args,
    )
    raise typer.Exit(code)


@app.command("reward-model")
def train_reward_model(
    recipe: Annotated[Path, typer.Argument(help="A YAML file such as recipes/reward_models/outcome.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, such as train.seed=1")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe, print it resolved, and stop.")] = False,
) -> None:
    """Train a reward model by a recipe, alone or under `accelerate launch -m llmrl reward-model ...`."""
    from llmrl.reward_models import recipe as recipes

    made = recipes.read(recipe, overrides or ())
    if dry_run:
        import yaml

        print(yaml.safe_dump(made.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return
    from llmrl.train.reward_models import train as learn

    learn(made, recipe.stem)


@app.command("serve-reward")
def serve_reward(
    reward: Annotated[str, typer.Argument(help="A name, {name: ..., option: ...}, or a recipe, for its `reward:`.")],
    host: Annotated[str, typer.Option(help="0.0.0.0 is every network: set --api-key then.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 is a free one.")] = 8100,
    api_key: Annotated[str | None, typer.Option(envvar="LLMRL_REWARD_API_KEY", help="What clients must send.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that grade.")] = 2,
    timeout_s: Annotated[float, typer.Option(help="Of an item; then its grader is killed.")] = 5.0,
    batch: Annotated[int, typer.Option(min=1, help="Groups scored at a time.")] = 32,
    max_waiting: Annotated[int, typer.Option(min=1, help="Groups that wait; further ones get a 503.")] = 256,
    request_timeout_s: Annotated[float, typer.Option(min=0.001, help="Of a group, waiting and scoring.")] = 600.0,
    grace_s: Annotated[float, typer.Option(min=0, help="For what is being scored at ctrl-C.")] = 30.0,
) -> None:
    """Put a reward behind HTTP until ctrl-C; runs ask it by the reward `remote`."""
    from llmrl.serve._scoring import Limits
    from llmrl.serve.reward import serve

    limits = Limits(batch=batch, max_waiting=max_waiting, request_timeout_s=request_timeout_s, grace_s=grace_s)
    code = serve(reward, host=host, port=port, api_key=api_key, workers=workers, timeout_s=timeout_s, limits=limits)
    raise typer.Exit(code)


@app.command("eval-rm")
def evaluate_reward_model(
    model: Annotated[str, typer.Argument(help="A folder that `llmrl reward-model` wrote.")],
    data: Annotated[str, typer.Option(help="A .jsonl, .json or .parquet file of rows that it has not learned from.")],
    columns: Annotated[
        str | None, typer.Option(help="preference, outcome, stepwise, prm800k or first_error; by the model's kind.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; `eval` in the model's own by default.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first rows only.")] = None,
) -> None:
    """Judge a reward model: accuracy, AUC, calibration, first errors, best of n, with 95 % intervals."""
    from llmrl.reward_report import run

    run(model, data, columns, out, limit)


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what starts vLLM and DeepSpeed.")] = False,
) -> None:
    """Look whether this machine is fit; exit code 1 where something fails."""
    from llmrl.checks.doctor import diagnose, exit_code, show

    findings = diagnose(quick)
    show(findings)
    raise typer.Exit(exit_code(findings))


@app.command()
def verify(
    algorithms: Annotated[
        list[str] | None, typer.Argument(help="Such as grpo, or package.module:Attribute; all that ship by default.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="A file for every check and what it found.")] = None,
) -> None:
    """Prove algorithms right, on a CPU; exit code 1 where a check fails."""
    from llmrl.checks.verify import run

    raise typer.Exit(run(algorithms or (), json))


@app.command("audit-reward")
def audit_reward(
    names: Annotated[
        list[str] | None, typer.Argument(help="Such as numeric, or package.module:Attribute; all that ship by default.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="key=value; may be given again.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Attack its reward with its problems.")] = None,
    data: Annotated[str | None, typer.Option(help="A dataset, a dataset/split, or a file, for problems.")] = None,
    limit: Annotated[int, typer.Option(help="Problems of a dataset.")] = 3,
    json: Annotated[
        Path | None, typer.Option("--json", help="A file for every attack, its text and what it was paid.")
    ] = None,
) -> None:
    """Attack rewards with a corpus of cheats; exit code 1 where one is paid."""
    from llmrl.checks.audit import run

    raise typer.Exit(run(names or (), option or (), recipe, data, limit, json))


@data_app.command("check")
def check_data(
    train: Annotated[str, typer.Argument(help="A dataset, a dataset/split, or a file.")],
    against: Annotated[str, typer.Option(help="The test that it must not share problems with.")],
    words: Annotated[int, typer.Option(help="Length of the runs of words that are compared.")] = 13,
) -> None:
    """Read every row of a dataset and look for problems that it shares with a test; exit code 1 where there are."""
    from llmrl.data._contamination import check

    report = check(train, against, words)
    for name, value in report.rows():
        print(f"{value:>10}  {name}")
    for overlap in report.overlaps[:10]:
        print(f"{overlap.share:10.2f}  {overlap.train} ~ {overlap.test}")
    if report.equal:
        raise typer.Exit(1)


@data_app.command("prime")
def prime_data(
    condition: Annotated[str, typer.Argument(help="all, backtracking_only, ... incorrect: docs/algorithms/habits.md.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file to write; one that is there is replaced.")],
    count: Annotated[int, typer.Option(help="Rows.")] = 1000,
    heldout: Annotated[bool, typer.Option("--heldout", help="Of the puzzles that the others never hold.")] = False,
    seed: Annotated[int, typer.Option(help="Of the puzzles and the words.")] = 0,
) -> None:
    """Write worked countdown puzzles that show chosen habits of thought, to fine-tune on."""
    from llmrl.data._priming import write

    write(condition, out, count=count, split="heldout" if heldout else "train", seed=seed)
    print(f"{count} rows: {out}")


@data_app.command("step-labels")
def label_steps(
    model: Annotated[str, typer.Argument(help="A folder or a hub name: it solves the problems, and completes steps.")],
    data: Annotated[str, typer.Option(help="A dataset: gsm8k, or {name: arithmetic, low: 10}.")],
    reward: Annotated[str, typer.Option(help="With verdicts: math_verify, or {name: numeric, tolerance: 0.1}.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet.")],
    solutions: Annotated[int, typer.Option(help="Of each problem.")] = 4,
    completions: Annotated[int, typer.Option(help="Behind each step.")] = 8,
    separator: Annotated[str, typer.Option(help="Ends a step; \\n is a line's end.")] = "\\n",
    soft: Annotated[bool, typer.Option("--soft", help="Shares instead of 0 and 1.")] = False,
    stop_at_first_error: Annotated[
        bool, typer.Option("--stop-at-first-error", help="Nothing is completed behind the first 0.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of solutions and completions.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Of a solution, completions included.")] = 1024,
    engine: Annotated[str, typer.Option(help="vllm or hf, or a mapping with options.")] = "vllm",
    limit: Annotated[int | None, typer.Option(help="The first problems only.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
) -> None:
    """Label the steps of solutions by how often completions behind them come to the right answer (Math-Shepherd)."""
    import yaml

    from llmrl.step_labels import Labelling, write
    from llmrl.types import Sampling

    options = Labelling(
        separator=separator.replace("\\n", "\n"),
        solutions=solutions,
        completions=completions,
        soft=soft,
        stop_at_first_error=stop_at_first_error,
        sampling=Sampling(temperature=temperature, max_tokens=max_tokens),
        seed=seed,
    )
    specs = {name: yaml.safe_load(text) for name, text in (("data", data), ("reward", reward), ("engine", engine))}
    write(model, specs["data"], specs["reward"], out, options, engine=specs["engine"], limit=limit)


@data_app.command("heron")
def heron_data(
    answers: Annotated[Path, typer.Argument(help="Prompts with several answers each, as `llmrl eval` writes them.")],
    factors: Annotated[Path, typer.Option(help="A YAML list, the most important first; or a recipe of `heron`.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file for the rows; a second call goes on.")],
    workers: Annotated[int, typer.Option(help="Processes that judge.")] = 2,
) -> None:
    """Write preference rows from answers and an order of factors: docs/heron.md."""
    from llmrl.data._heron import factors_of, write

    for line in write(answers, out, factors_of(factors), workers=workers).lines():
        print(line)


@data_app.command("salmon")
def salmon_data(
    answers: Annotated[Path, typer.Argument(help="Prompts with two answers each, as `llmrl eval` writes them.")],
    judge: Annotated[str, typer.Option(help="A folder, a hub name, or http://host:port/v1#name of a server.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file for the rows; a second call goes on.")],
    principles: Annotated[Path | None, typer.Option(help="A .jsonl file; a few that ship by default.")] = None,
    engine: Annotated[str, typer.Option(help="For a folder or a hub name: vllm or hf.")] = "vllm",
    api: Annotated[str, typer.Option(help="Of a server: chat or completions.")] = "chat",
    max_tokens: Annotated[int, typer.Option(help="Of a question to the judge.")] = 1536,
    min_chars: Annotated[int, typer.Option(help="Shorter answers are left out.")] = 16,
    passes: Annotated[int, typer.Option(help="Rows that a pair may give, each with its own principles.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the principles, negations and flips.")] = 0,
) -> None:
    """Have a model compare answers by principles, and write preference rows: docs/salmon.md."""
    from llmrl.data._judge import open_judge
    from llmrl.data._salmon import Making, write
    from llmrl.principles import read

    chosen = read(principles)
    with open_judge(judge, engine=engine, api=api, max_tokens=max_tokens) as asked:
        making = Making(passes=passes, seed=seed)
        report = write(answers, out, chosen, asked, judged_by=judge, making=making, min_chars=min_chars)
    for line in report.lines():
        print(line)


@app.command()
def demo(
    overrides: Annotated[list[str] | None, typer.Argument(help="Of recipes/demo.yaml: train.max_steps=100")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights, the problems and the samples.")] = 0,
    out: Annotated[Path, typer.Option(help="A folder; one that an earlier demo made is replaced.")] = Path("runs/demo"),
    target: Annotated[float, typer.Option(help="Accuracy that ends fine-tuning, 0 to 1.")] = 0.4,
    quiet: Annotated[bool, typer.Option("--quiet", help="Plain lines instead of a live view.")] = False,
) -> None:
    """Make a small model from nothing, and watch reinforcement learning make it better."""
    from llmrl.demo import run

    run(seed, quiet, out, target, overrides or ())


@app.command()
def figures(
    sources: Annotated[list[Path], typer.Argument(help="Folders of runs, or a .json that this command wrote.")],
    metric: Annotated[str, typer.Option(help="A name of metrics.jsonl.")] = "eval/arithmetic/avg@1",
    out: Annotated[Path, typer.Option(help="A path without ending: .png .csv .json .md")] = Path("runs/figures"),
    title: Annotated[str, typer.Option(help="Above the picture.")] = "",
) -> None:
    """Draw learning curves with 95 % bands over seeds; runs `name-0`, `name-1` are seeds of one group."""
    from llmrl.figures import draw

    draw(sources, out, metric, title)
    print(f"{out}.png  {out}.csv  {out}.md")


@recipes_app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """The recipes that ship, one path a line with its first comment."""
    from importlib.resources import files

    if context.invoked_subcommand:
        return
    for path in sorted(Path(str(files("llmrl.recipes"))).rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(f"{path}: {first}")


@recipes_app.command("import")
def import_recipe(
    file: Annotated[Path, typer.Argument(help="A flat YAML file for GRPO of TRL or open-r1.")],
    processes: Annotated[int, typer.Option(help="That it was launched with: they decide the size of a step.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="With the file's keys: max_steps=500 top_k=null")
    ] = None,
) -> None:
    """Print a file of TRL's or open-r1's as a recipe; a key without a counterpart is refused, with the reason."""
    import yaml

    from llmrl.importing import read

    made = read(file, processes, overrides or ())
    print(f"# From {file.name}, for {processes} processes; launch it with as many.")
    if made.left_out:
        print(f"# Left out, for they change nothing that is learned: {', '.join(made.left_out)}.")
    print(yaml.safe_dump(made.values, sort_keys=False, allow_unicode=True), end="")
