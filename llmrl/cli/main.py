"""The command line. A refusal is one message on standard error; a traceback is a bug."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llmrl import __version__
from llmrl.cli.data import app as data_app
from llmrl.cli.endings import endings
from llmrl.cli.export import Step, export, folder_of
from llmrl.cli.listing import list_names
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

app = typer.Typer(
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
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(replay)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(plan)
app.command("run-stage", hidden=True)(run_stage)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(tune)


def main() -> None:
    """Run the command line; exit code 1 where something is refused, 130 after ctrl-C, 143 after SIGTERM in a run."""
    # Before torch is loaded: threads that spin while they wait take cores that somebody else, such as a grader, could
    # use (benchmarks/cpu.py waiting --busy 1).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.path.append(os.getcwd())  # so that rewards beside the recipe are found, and hide no library
    with endings():
        app()


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
    resume_from: Annotated[
        Path | None, typer.Option(help="Go on from this checkpoint of the run: step-000050, or its path.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Plain lines instead of a live view.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe, print it resolved, and stop.")] = False,
) -> None:
    """Train by a recipe, alone or under `accelerate launch -m llmrl train ...`."""
    from llmrl import recipe as recipes

    changes = changes_of(context, overrides)
    if recipes.STAGES in (values := recipes.tree(recipe)):
        return train_stages(values, recipe, changes, resume_from=resume_from, quiet=quiet, dry_run=dry_run)
    made = recipes.read(recipe, changes)
    if dry_run:
        import yaml

        from llmrl.train.dry_run import require_possible

        require_possible(made)
        print(yaml.safe_dump(made.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return None
    train_by(made, recipe.stem, resume_from or resume, quiet=quiet)
    return None


@app.command("eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A folder, that of a run too, a hub name, or http://host:port/v1 of a running server.")
    ],
    benchmarks: Annotated[str, typer.Option(help="Names, with commas: gsm8k,math500")],
    samples: Annotated[
        int | None, typer.Option(help="Completions per problem; the benchmark's own by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first problems only.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    temperature: Annotated[float | None, typer.Option(help="The benchmark's own by default.")] = None,
    top_p: Annotated[float | None, typer.Option(help="The benchmark's own by default.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of a completion.")] = None,
    engine: Annotated[str, typer.Option(help="vllm, server or hf, or {name: ..., option: ...}.")] = "vllm",
    dtype: Annotated[str | None, typer.Option(help="The checkpoint's own by default.")] = None,
    system_prompt: Annotated[str | None, typer.Option(help="For conversations without one.")] = None,
    served_model: Annotated[str, typer.Option(help="Of a server that serves several.")] = "",
    api_key: Annotated[str | None, typer.Option(help="For a server; OPENAI_API_KEY by default.")] = None,
    max_prompt_tokens: Annotated[
        int, typer.Option(help="A longer prompt is not asked, and counted as unjudged.")
    ] = 2048,
    search: SearchName = None,
    judge: Judge = None,
    search_tokens: SearchTokens = None,
    grade: Annotated[str, typer.Option(help="Of patches of SWE-bench: none, local or harness.")] = "none",
    swe: Annotated[str | None, typer.Option(help="Of SWE-bench: {repos: clones, samples: 10}.")] = None,
    step: Step = None,
    out: Annotated[Path | None, typer.Option(help="Where results go; a second call there goes on.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No table and no progress.")] = False,
) -> None:
    """Ask a model the problems of benchmarks; a call that was stopped goes on where it was."""
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
    names = [name.strip() for name in benchmarks.split(",") if name.strip()]
    folder = out or Path("runs") / "eval" / model.rstrip("/").replace("://", "-").replace("/", "-").lstrip("-.")
    run(model, names, folder, plan, setup, quiet=quiet)


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
    from llmrl.train.reward_model.run import train as learn

    learn(made, recipe.stem)


@app.command("adopt-rm")
def adopt_reward_model(
    source: Annotated[str, typer.Argument(help="Somebody's reward model: a folder or a hub name.")],
    out: Annotated[Path, typer.Argument(help="A folder to write, which is not there yet.")],
    kind: Annotated[str, typer.Option(help="outcome, verifier or process.")],
    good: Annotated[str | None, typer.Option(help="A language model's token for right, such as +.")] = None,
    bad: Annotated[str | None, typer.Option(help="Its token for wrong.")] = None,
    template: Annotated[str, typer.Option(help="chat, or Jinja2 with prompt and response.")] = "chat",
    separator: Annotated[str, typer.Option(help="Behind each step; \\n is a line's end.")] = "\\n",
    max_length: Annotated[int, typer.Option(help="Tokens that it reads.")] = 1024,
    data: Annotated[Path | None, typer.Option(help="Rows to calibrate on: .jsonl, .json or .parquet.")] = None,
    columns: Annotated[str | None, typer.Option(help="What they look like; by the kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The first rows only.")] = 512,
    revision: Annotated[str | None, typer.Option(help="Of a hub name.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of its authors.")] = False,
) -> None:
    """Make a reward model of others into a folder that rewards read, with the same scores."""
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
    model: Annotated[str, typer.Argument(help="A folder that `llmrl reward-model` wrote.")],
    data: Annotated[str, typer.Option(help="A .jsonl, .json or .parquet file of rows that it has not learned from.")],
    columns: Annotated[
        str | None, typer.Option(help="Such as preference, outcome or rollouts; by the model's kind.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; `eval` in the model's own by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first rows only.")] = None,
) -> None:
    """Judge a reward model: accuracy, AUC, calibration, first errors, best of n, with 95 % intervals."""
    from llmrl.evaluation.reward_model import run

    run(model, data, columns, out, limit)


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what starts vLLM and DeepSpeed.")] = False,
) -> None:
    """Look whether this machine is fit; exit code 1 where something fails."""
    from llmrl.checks.doctor.run import diagnose, exit_code, show

    findings = diagnose(quick)
    show(findings)
    raise typer.Exit(exit_code(findings))


@app.command()
def verify(
    algorithms: Annotated[
        list[str] | None, typer.Argument(help="Such as grpo, or package.module:Attribute; all that ship by default.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="A file for every check and what it found.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    oracle: Annotated[
        str | None,
        typer.Option(
            help="The equation of your own algorithm: ppo, grpo, ... or package.module:function. Without one, what it "
            "computes is compared with nothing."
        ),
    ] = None,
) -> None:
    """Prove algorithms right, on a CPU; exit code 1 where a check fails."""
    from llmrl.checks.verify.run import run

    raise typer.Exit(run(algorithms or (), json, fail_fast=fail_fast, oracle=oracle))


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
        Path | None, typer.Option("--json", help="A file for every attack, its text and its reward.")
    ] = None,
) -> None:
    """Attack rewards with a corpus of cheats; exit code 1 where one is rewarded."""
    from llmrl.checks.attacks.run import run

    raise typer.Exit(run(names or (), option or (), recipe, data, limit, json))


@app.command()
def demo(
    overrides: Annotated[list[str] | None, typer.Argument(help="Of recipes/demo.yaml: train.max_steps=100")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights, the problems and the samples.")] = 0,
    out: Annotated[Path, typer.Option(help="A folder; one that an earlier demo made is replaced.")] = Path("runs/demo"),
    target: Annotated[float, typer.Option(help="Accuracy that ends fine-tuning, 0 to 0.9.")] = 0.4,
    quiet: Annotated[bool, typer.Option("--quiet", help="Plain lines instead of a live view.")] = False,
) -> None:
    """Make a small model from nothing, and watch reinforcement learning make it better."""
    from llmrl.cli.demo import Target, run
    from llmrl.plugins import converted

    run(seed, quiet, out, converted(Target, target, "demo.target"), overrides or ())


@app.command()
def figures(
    sources: Annotated[list[Path], typer.Argument(help="Folders of runs, or a .json that this command wrote.")],
    metric: Annotated[str, typer.Option(help="A name of metrics.jsonl.")] = "eval/arithmetic/avg@1",
    out: Annotated[Path, typer.Option(help="A path without ending: .png .csv .json .md")] = Path("runs/figures"),
    title: Annotated[str, typer.Option(help="Above the picture.")] = "",
) -> None:
    """Draw learning curves with 95 % bands over seeds; runs `name-0`, `name-1` are seeds of one group."""
    from llmrl.run_folder.curves import draw

    draw(sources, out, metric, title)
    print(f"{out}.png  {out}.csv  {out}.md")
