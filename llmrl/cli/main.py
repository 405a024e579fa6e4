"""The command line. A refusal is one message on standard error; a traceback is a bug."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llmrl import __version__
from llmrl.cli import waiting
from llmrl.cli.data import app as data_app
from llmrl.cli.endings import endings
from llmrl.cli.export import Step, export, folder_of
from llmrl.cli.listing import list_names
from llmrl.cli.order import InOrder
from llmrl.cli.overrides import changes_of
from llmrl.cli.pipeline import run_stage, train_stages
from llmrl.cli.plan import plan
from llmrl.cli.play import play
from llmrl.cli.recipes import app as recipes_app
from llmrl.cli.replay import replay
from llmrl.cli.search_options import Judge, SearchName, SearchTokens, spec
from llmrl.cli.serve import serve, serve_reward
from llmrl.cli.training import dpo, kto, sft, train_by
from llmrl.cli.tune import tune
from llmrl.cli.verbosity import Commands
from llmrl.cli.view import show, view
from llmrl.run_folder.libraries import kept_apart

app = Commands(
    cls=InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Post-training and reasoning RL for language models.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(recipes_app, name="recipes")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
app.command("serve-reward")(serve_reward)
app.command()(export)
app.command("list")(list_names)
for _as_in_trl in (sft, dpo, kto):
    app.command()(_as_in_trl)
app.command()(play)
app.command()(view)
app.command()(show)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(replay)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(plan)
app.command("run-stage", hidden=True)(run_stage)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(tune)

COMPUTE = {"train", "demo", "eval", "serve", "sft", "dpo", "kto", "run-stage", "tune", "replay"}
COMPUTE |= {"reward-model", "adopt-rm", "eval-rm"}


def main() -> None:
    """Run the command line; exit code 1 where something is refused, 130 after ctrl-C, 143 after SIGTERM in a run."""
    sys.path.append(os.getcwd())  # so that rewards beside the recipe are found, and hide no library
    with endings(), kept_apart():
        app()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"llmrl {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Post-training and reasoning RL for language models."""
    if context.invoked_subcommand in COMPUTE:
        waiting.choose()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file; `llmrl recipes` lists those that ship.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the form section.key=value, such as train.seed=1.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint of the run.")] = False,
    resume_from: Annotated[
        Path | None, typer.Option(help="Continue from this checkpoint of the run: step-000050, or its path.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print plain lines instead of the live view.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, print it with all defaults, and exit.")
    ] = False,
) -> None:
    """Train a model by a recipe. Runs on one process, or under `accelerate launch -m llmrl train ...`."""
    from llmrl import recipe as recipes

    changes = changes_of(context, overrides)
    if recipes.STAGES in (values := recipes.tree(recipe)):
        return train_stages(values, recipe, changes, resume_from=resume_from, quiet=quiet, dry_run=dry_run)
    train_by(recipes.read(recipe, changes), recipe.stem, resume_from or resume, quiet=quiet, dry_run=dry_run)
    return None


@app.command("eval")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Model folder, run folder, hub name, or the URL of a running server: http://host:port/v1."),
    ],
    benchmarks: Annotated[str, typer.Option(help="Names of benchmarks, separated by commas: gsm8k,math500.")],
    samples: Annotated[
        int | None, typer.Option(help="Completions per problem; by default as the benchmark sets it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first problems of each benchmark.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    temperature: Annotated[float | None, typer.Option(help="By default as the benchmark sets it.")] = None,
    top_p: Annotated[float | None, typer.Option(help="By default as the benchmark sets it.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Largest number of tokens in a completion.")] = None,
    engine: Annotated[str, typer.Option(help="Engine: vllm, server, hf, or {name: ..., option: ...}.")] = "vllm",
    dtype: Annotated[str | None, typer.Option(help="Data type of the weights; by default as saved.")] = None,
    system_prompt: Annotated[str | None, typer.Option(help="System prompt of conversations that have none.")] = None,
    served_model: Annotated[str, typer.Option(help="Model to ask, if the server has several.")] = "",
    api_key: Annotated[str | None, typer.Option(help="API key of the server; by default OPENAI_API_KEY.")] = None,
    max_prompt_tokens: Annotated[int, typer.Option(help="Longer prompts are skipped and counted as unjudged.")] = 2048,
    search: SearchName = None,
    judge: Judge = None,
    search_tokens: SearchTokens = None,
    grade: Annotated[str, typer.Option(help="How SWE-bench patches are graded: none, local or harness.")] = "none",
    swe: Annotated[str | None, typer.Option(help="Options of SWE-bench: {repos: clones, samples: 10}.")] = None,
    step: Step = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; a second call there continues.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print neither table nor progress.")] = False,
) -> None:
    """Evaluate a model on benchmarks. A call that was interrupted continues where it stopped."""
    from llmrl.clients.bearer import read_key
    from llmrl.evaluation.run import EvalSetup, Plan, run
    from llmrl.evaluation.swe_bench import options_of
    from llmrl.plugins import construct
    from llmrl.serve.checkpoint import check

    model = folder_of(model, step)
    asked = {"samples": samples, "limit": limit, "seed": seed}
    sampling = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    plan = construct(Plan, {**asked, **sampling}, "eval")
    options = {
        "engine": spec(engine, "--engine"),
        "dtype": dtype,
        "system_prompt": system_prompt,
        "served_model": served_model,
        "api_key": read_key(api_key),
        "search": search,
        "judge": spec(judge, "--judge"),
        "search_tokens": search_tokens,
        "max_prompt_tokens": max_prompt_tokens,
    }
    setup = replace(construct(EvalSetup, options, "eval"), swe=options_of(grade, spec(swe, "--swe")))
    if Path(model).exists() or (("/" in model or model.startswith(".")) and "://" not in model):
        check(model, intact=False)  # its checksums are compared when it is loaded
    folder = out or Path("runs") / "eval" / model.rstrip("/").replace("://", "-").replace("/", "-").lstrip("-.")
    run(model, list(filter(None, map(str.strip, benchmarks.split(",")))), folder, plan, setup, quiet=quiet)


@app.command("reward-model")
def train_reward_model(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file such as recipes/reward_models/outcome.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the form section.key=value, such as train.seed=1.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, print it with all defaults, and exit.")
    ] = False,
) -> None:
    """Train a reward model by a recipe. Runs on one process, or under `accelerate launch -m llmrl reward-model ...`."""
    from llmrl.reward_models import recipe as recipes

    made = recipes.read(recipe, overrides or ())
    if dry_run:
        import yaml

        print(yaml.safe_dump(made.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return
    from llmrl.train.reward_model.run import train as learn

    learn(made, recipe.stem)


@app.command("adopt-rm")
def adopt_reward_model(
    source: Annotated[str, typer.Argument(help="Reward model of another toolkit: a folder or a hub name.")],
    out: Annotated[Path, typer.Argument(help="Output folder, which must not exist yet.")],
    kind: Annotated[str, typer.Option(help="Kind of reward model: outcome, verifier or process.")],
    good: Annotated[str | None, typer.Option(help="Token of a language model that means right, such as +.")] = None,
    bad: Annotated[str | None, typer.Option(help="Token that means wrong.")] = None,
    template: Annotated[str, typer.Option(help="chat, or a Jinja2 template of prompt and response.")] = "chat",
    separator: Annotated[str, typer.Option(help="Text after each step; \\n is a newline.")] = "\\n",
    max_length: Annotated[int, typer.Option(help="Largest number of tokens that the model reads.")] = 1024,
    data: Annotated[Path | None, typer.Option(help="Rows for calibration: .jsonl, .json or .parquet.")] = None,
    columns: Annotated[str | None, typer.Option(help="Format of the rows; by default that of the kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Use only the first rows.")] = 512,
    revision: Annotated[str | None, typer.Option(help="Revision on the hub.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code from the model's repository to run.")
    ] = False,
) -> None:
    """Convert a reward model of another toolkit. The folder that is written has the same scores."""
    from llmrl.plugins import construct
    from llmrl.reward_models.recipe import COLUMNS
    from llmrl.reward_models.training_rows import answers_of, read
    from llmrl.train.reward_model.adopt import Adoption, adopt

    values = {
        "kind": kind,
        "good": good,
        "bad": bad,
        "template": template,
        "separator": separator.replace("\\n", "\n"),
        "max_length": max_length,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    options: Adoption = construct(Adoption, values, "adopt-rm")
    rows = [] if data is None else read(columns or COLUMNS[options.kind][0], data, limit).kept
    adopt(source, out, options, [answer for row in rows for answer in answers_of(row)])


@app.command("eval-rm")
def evaluate_reward_model(
    model: Annotated[str, typer.Argument(help="Folder that `llmrl reward-model` wrote.")],
    data: Annotated[str, typer.Option(help="Held-out rows: a .jsonl, .json or .parquet file.")],
    columns: Annotated[
        str | None,
        typer.Option(
            help="Format of the rows: preference, outcome, rollouts ...; by default that of the model's kind."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default `eval` in the model's folder.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first rows.")] = None,
) -> None:
    """Evaluate a reward model on labelled rows. Reports accuracy, AUC, calibration, first errors and best of n."""
    from llmrl.evaluation.reward_model import run

    run(model, data, columns, out, limit)


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Skip the checks that start vLLM and DeepSpeed.")] = False,
) -> None:
    """Check whether llmrl works on this machine. The exit code is 1 if a check fails."""
    from llmrl.checks.doctor.run import diagnose, exit_code, show

    findings = diagnose(quick)
    show(findings)
    raise typer.Exit(exit_code(findings))


@app.command()
def verify(
    algorithms: Annotated[
        list[str] | None,
        typer.Argument(help="Algorithms, such as grpo or package.module:Attribute; by default all that ship."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write every check and its result to this file.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    oracle: Annotated[
        str | None,
        typer.Option(
            help="Reference for your own algorithm: ppo, grpo, ... or package.module:function. Without one, its losses "
            "are not compared with an equation."
        ),
    ] = None,
) -> None:
    """Check algorithms against oracles and worked cases. Runs on a CPU; the exit code is 1 if a check fails."""
    from llmrl.checks.verify.run import run

    raise typer.Exit(run(algorithms or (), json, fail_fast=fail_fast, oracle=oracle))


@app.command("audit-reward")
def audit_reward(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Rewards, such as numeric or package.module:Attribute; by default all that ship."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the reward as key=value; may be repeated.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Attack the reward of this recipe, with the recipe's problems.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Source of problems: a dataset, a dataset/split, or a file.")] = None,
    limit: Annotated[int, typer.Option(help="Number of problems from a dataset.")] = 3,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write every attack, its text and its reward to this file.")
    ] = None,
) -> None:
    """Attack rewards with a corpus of cheating answers. The exit code is 1 if one is rewarded."""
    from llmrl.checks.attacks.run import run

    raise typer.Exit(run(names or (), option or (), recipe, data, limit, json))


@app.command()
def demo(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides of recipes/demo.yaml, such as train.max_steps=100.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, problems and samples.")] = 0,
    out: Annotated[Path, typer.Option(help="Output folder; that of an earlier demo is replaced.")] = Path("runs/demo"),
    target: Annotated[float, typer.Option(help="Accuracy at which fine-tuning ends, 0 to 0.9.")] = 0.4,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print plain lines instead of the live view.")] = False,
) -> None:
    """Train a small model from scratch, as a demonstration. Takes a few minutes on a CPU."""
    from llmrl.cli.demo import Target, run
    from llmrl.plugins import converted

    run(seed, quiet, out, converted(Target, target, "demo.target"), overrides or ())


@app.command()
def figures(
    sources: Annotated[list[Path], typer.Argument(help="Run folders, or a .json file that this command wrote.")],
    metric: Annotated[str, typer.Option(help="Name of a metric in metrics.jsonl.")] = "eval/arithmetic/avg@1",
    out: Annotated[
        Path, typer.Option(help="Output path without a suffix; .png, .csv, .json and .md are written.")
    ] = Path("runs/figures"),
    title: Annotated[str, typer.Option(help="Title of the plot.")] = "",
) -> None:
    """Plot learning curves with 95 % bands over seeds. The runs `name-0` and `name-1` are seeds of one group."""
    from llmrl.run_folder.curves import draw

    draw(sources, out, metric, title)
    print(f"{out}.png  {out}.csv  {out}.md")
