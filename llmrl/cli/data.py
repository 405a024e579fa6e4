"""Check datasets, and write training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of
from llmrl.cli.search_options import Judge, SearchTokens, spec
from llmrl.cli.verbosity import Commands

app = Commands(no_args_is_help=True, rich_markup_mode=None, help=__doc__)


@app.command("check")
def check_data(
    train: Annotated[str, typer.Argument(help="Training data: a dataset, a dataset/split, or a file.")],
    against: Annotated[str, typer.Option(help="Test data that must not share problems with it.")],
    words: Annotated[int, typer.Option(min=1, help="Number of words in the runs that are compared.")] = 13,
) -> None:
    """Read every row of a dataset and look for problems that a test also has; the exit code is 1 if there are any."""
    from llmrl.datagen.contamination import check

    report = check(train, against, words)
    for name, value in report.rows():
        print(f"{value:>10}  {name}")
    for overlap in report.overlaps[:10]:
        print(f"{overlap.share:10.2f}  {overlap.train} ~ {overlap.test}")
    if report.equal:
        raise typer.Exit(1)


@app.command("swe")
def swe_data(
    source: Annotated[Path, typer.Argument(help="Clone of a repository, or a .jsonl file in the format of SWE-bench.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file; statistics are written beside it.")],
    issues: Annotated[Path | None, typer.Option(help="Issues and pull requests, as GitHub's API returns them.")] = None,
    clones: Annotated[
        Path | None, typer.Option(help="Folder of clones, owner__name or name, if SOURCE is a file.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="File in the format of SWE-bench that must not be trained on.")
    ] = None,
    repo: Annotated[
        str | None, typer.Option(help="owner/name of the repository; by default from the remote `origin`.")
    ] = None,
    license: Annotated[str, typer.Option(help="License of the repository, for the column of that name.")] = "",
    max_files: Annotated[int, typer.Option(help="Largest number of files that a change edits, without tests.")] = 5,
    max_lines: Annotated[int, typer.Option(help="Largest number of changed lines, without tests.")] = 300,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Largest size of issue and files in tokens of three characters.")
    ] = 12_000,
    context_files: Annotated[int, typer.Option(help="Largest number of relevant files that are not edited.")] = 3,
    ending: Annotated[list[str] | None, typer.Option(help="Suffix of source files; by default .py.")] = None,
    bugs_only: Annotated[bool, typer.Option(help="Keep only issues that describe a bug.")] = True,
    keep_benchmark: Annotated[
        bool, typer.Option("--keep-benchmark", help="Keep the repositories of SWE-bench, too.")
    ] = False,
) -> None:
    """Write rows of issues and their repairs from a repository's history: docs/swe.md."""
    from llmrl.datagen.swe.curate import Curation, write
    from llmrl.plugins import construct
    from llmrl.swe.rows import CODE

    values = {
        "max_files": max_files,
        "max_lines": max_lines,
        "max_tokens": max_tokens,
        "context_files": context_files,
        "endings": list(ending or CODE),
        "bugs_only": bugs_only,
        "keep_benchmark": keep_benchmark,
    }
    statistics = write(
        source,
        out,
        construct(Curation, values, "data swe"),
        issues=issues,
        clones=clones,
        against=against or (),
        repo=repo,
        license=license,
    )
    for name, value in statistics.items():
        print(f"{name}: {value}")


@app.command("prime")
def prime_data(
    condition: Annotated[
        str, typer.Argument(help="Condition: all, backtracking_only, ... incorrect (docs/algorithms/habits.md).")
    ],
    out: Annotated[Path, typer.Option(help="Output .jsonl file; an existing one is replaced.")],
    count: Annotated[int, typer.Option(min=1, help="Number of rows.")] = 1000,
    heldout: Annotated[bool, typer.Option("--heldout", help="Use the held-out puzzles.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of puzzles and wording.")] = 0,
) -> None:
    """Write worked countdown puzzles that show chosen reasoning habits, for fine-tuning."""
    from llmrl.datagen.priming import write

    write(condition, out, count=count, split="heldout" if heldout else "train", seed=seed)
    print(f"{count} rows: {out}")


@app.command("play")
def play_data(
    env: Annotated[str, typer.Argument(help="Text game: maze, or {name: maze, layout: u}.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file, which must not exist yet; use it as source.path.")],
    player: Annotated[str, typer.Option(help="Player: oracle or random.")] = "oracle",
    random_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the oracle's moves that are random, 0 to 1.")
    ] = 0.0,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes; the starts are repeated.")] = 1000,
    split: Annotated[str, typer.Option(help="Starts: train, heldout or all.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of starts and of the player.")] = 0,
) -> None:
    """Write episodes of a text game played by a script, for behaviour cloning or offline RL (docs/games.md)."""
    from llmrl.datagen.demonstrations import Demonstrations, write
    from llmrl.plugins import construct
    from llmrl.recipe import yaml_text

    options = {
        "data": {"env": yaml_text.parse(env, "ENV"), "split": split, "seed": seed},
        "player": player,
        "random_share": random_share,
        "episodes": episodes,
        "seed": seed,
    }
    count, mean = write(construct(Demonstrations, options, "data play"), out)
    print(f"{count} episodes, mean return {mean:g}: {out}")


@app.command("step-labels")
def label_steps(
    model: Annotated[
        str, typer.Argument(help="Model that solves the problems and completes steps: a folder or a hub name.")
    ],
    data: Annotated[str, typer.Option(help="Dataset: gsm8k, or {name: arithmetic, low: 10}.")],
    reward: Annotated[str, typer.Option(help="Reward with verdicts: math_verify, or {name: numeric, tolerance: 0.1}.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file, which must not exist yet.")],
    solutions: Annotated[int, typer.Option(min=1, help="Solutions per problem.")] = 4,
    completions: Annotated[int, typer.Option(min=1, help="Completions after each step.")] = 8,
    separator: Annotated[str, typer.Option(help="Text that ends a step; \\n is a newline.")] = "\\n",
    soft: Annotated[bool, typer.Option("--soft", help="Write shares instead of 0 and 1.")] = False,
    stop_at_first_error: Annotated[
        bool, typer.Option("--stop-at-first-error", help="Do not complete steps after the first 0.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Sampling temperature of solutions and completions.")] = 1.0,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Largest number of tokens of a solution and its completion.")
    ] = 1024,
    engine: Annotated[str, typer.Option(help="Engine: vllm, hf, or a mapping with options.")] = "vllm",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first problems.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
) -> None:
    """Label the steps of solutions by how often their completions reach the right answer (Math-Shepherd)."""
    from llmrl.datagen.step_labels import Labelling, write
    from llmrl.plugins import converted
    from llmrl.recipe import yaml_text
    from llmrl.recipe.ranges import Temperature
    from llmrl.types import Sampling

    options = Labelling(
        separator=separator.replace("\\n", "\n"),
        solutions=solutions,
        completions=completions,
        soft=soft,
        stop_at_first_error=stop_at_first_error,
        sampling=Sampling(temperature=converted(Temperature, temperature, "data.temperature"), max_tokens=max_tokens),
        seed=seed,
    )
    specs = {
        name: yaml_text.parse(text, f"--{name}")
        for name, text in (("data", data), ("reward", reward), ("engine", engine))
    }
    write(model, specs["data"], specs["reward"], out, options, engine=specs["engine"], limit=limit)


@app.command("search")
def search_data(
    model: Annotated[str, typer.Argument(help="Model: a folder or a hub name.")],
    data: Annotated[str, typer.Option(help="Dataset: gsm8k, or {name: arithmetic, low: 10}.")],
    search: Annotated[str, typer.Option(help="Search: plan_mcts:100, or {name: ..., option: ...}.")],
    reward: Annotated[str, typer.Option(help="Reward with verdicts on whole answers: math_verify.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file with one line per node, which must not exist yet.")],
    judge: Judge = None,
    trees: Annotated[int, typer.Option(min=1, help="Trees per problem.")] = 1,
    search_tokens: SearchTokens = None,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Largest number of tokens of an answer.")] = 1024,
    engine: Annotated[str, typer.Option(help="Engine: vllm, hf, or a mapping with options.")] = "vllm",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first problems.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
) -> None:
    """Search for answers to a dataset with the reference at hand, and store the search trees (docs/search.md)."""
    from llmrl.datagen.search import TreeSearch, write_trees
    from llmrl.plugins import converted
    from llmrl.recipe import yaml_text
    from llmrl.recipe.ranges import Temperature
    from llmrl.types import Sampling

    options = TreeSearch(
        search=search,
        reward=yaml_text.parse(reward, "--reward"),
        judge=spec(judge, "--judge"),
        trees=trees,
        tokens=search_tokens,
        sampling=Sampling(temperature=converted(Temperature, temperature, "data.temperature"), max_tokens=max_tokens),
        seed=seed,
    )
    problems, player = yaml_text.parse(data, "--data"), yaml_text.parse(engine, "--engine")
    counts = write_trees(model, problems, out, options, engine=player, limit=limit)
    print(f"{', '.join(f'{count} {name}' for name, count in counts.items())}: {out}")


@app.command("from-trees")
def rows_of_trees(
    trees: Annotated[Path, typer.Argument(help="File that `llmrl data search` wrote.")],
    rows: Annotated[str, typer.Option(help="Kind of rows: sft, stepwise or preference.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file, which must not exist yet.")],
) -> None:
    """Convert stored search trees to training rows: right answers, step labels, or preferences between steps."""
    from llmrl.datagen.search import ROWS, write_rows
    from llmrl.errors import DataError
    from llmrl.plugins import did_you_mean

    if rows not in ROWS:
        raise DataError(f"--rows {rows}{did_you_mean(rows, ROWS)}; expected one of {', '.join(ROWS)}")
    print(f"{write_rows(trees, rows, out)} rows: {out}")


@app.command("columns", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def store_columns(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe with an offline source.")],
    out: Annotated[Path, typer.Option(help="Output folder; use it as source.columns of the run.")],
) -> None:
    """Compute the columns of a frozen model (ref_logprobs) for stored rows once, and save them for later runs.

    Overrides of the recipe follow, section.key=value. Runs under `accelerate launch`, too.
    """
    from llmrl.recipe import read
    from llmrl.train.stored_columns import write_columns

    if rows := write_columns(read(recipe, changes_of(context)), out):
        print(f"{rows} rows: {out}")


@app.command("select", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def select_rows(
    context: typer.Context,
    recipe: Annotated[
        Path, typer.Argument(help="Recipe with an offline source, and the trained model as model.policy.")
    ],
    out: Annotated[
        Path, typer.Option(help="Output .jsonl file, which must not exist yet; use it as source.replay.path.")
    ],
    keep: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 1000,
    per_problem: Annotated[int | None, typer.Option(min=1, help="Largest number of rows per problem.")] = None,
    min_reward: Annotated[float, typer.Option(help="Reward above which an answer counts as a success.")] = 0.5,
) -> None:
    """Choose rows to rehearse during training on a later task: the likeliest right answers of the trained policy.

    Overrides of the recipe follow, section.key=value. Runs under `accelerate launch`, too.
    """
    from llmrl.plugins import converted
    from llmrl.recipe import read
    from llmrl.train.selection import write_selection

    made, least = read(recipe, changes_of(context)), converted(float, min_reward, "data select.min_reward")
    if rows := write_selection(made, out, keep=keep, per_problem=per_problem, min_reward=least):
        print(f"{rows} rows: {out}")


@app.command("heron")
def heron_data(
    answers: Annotated[Path, typer.Argument(help="Prompts with several answers each, as written by `llmrl eval`.")],
    factors: Annotated[
        Path, typer.Option(help="YAML list of factors, most important first; or a recipe with the reward `heron`.")
    ],
    out: Annotated[Path, typer.Option(help="Output .jsonl file; a second call continues.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of judging processes.")] = 2,
) -> None:
    """Write preference rows from answers and an order of factors (docs/heron.md)."""
    from llmrl.datagen.heron import factors_of, write

    for line in write(answers, out, factors_of(factors), workers=workers).lines():
        print(line)


@app.command("salmon")
def salmon_data(
    answers: Annotated[Path, typer.Argument(help="Prompts with two answers each, as written by `llmrl eval`.")],
    judge: Annotated[
        str, typer.Option(help="Judge model: a folder, a hub name, or http://host:port/v1#name of a server.")
    ],
    out: Annotated[Path, typer.Option(help="Output .jsonl file; a second call continues.")],
    principles: Annotated[
        Path | None, typer.Option(help=".jsonl file of principles; by default a few that ship.")
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine for a folder or a hub name: vllm or hf.")] = "vllm",
    api: Annotated[str, typer.Option(help="Interface of a server: chat or completions.")] = "chat",
    max_tokens: Annotated[int, typer.Option(min=1, help="Largest number of tokens of a question to the judge.")] = 1536,
    min_chars: Annotated[int, typer.Option(min=0, help="Skip answers shorter than this.")] = 16,
    passes: Annotated[
        int, typer.Option(min=1, help="Largest number of rows per pair, each with its own principles.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of principles, negations and order.")] = 0,
) -> None:
    """Compare answers by principles with a judge model, and write preference rows (docs/salmon.md)."""
    from llmrl.datagen.judge import open_judge
    from llmrl.datagen.salmon import Making, write
    from llmrl.reward_models.principles import read

    chosen = read(principles)
    with open_judge(judge, engine=engine, api=api, max_tokens=max_tokens) as asked:
        making = Making(passes=passes, seed=seed)
        report = write(answers, out, chosen, asked, judged_by=judge, making=making, min_chars=min_chars)
    for line in report.lines():
        print(line)


@app.command("swe-trajectories")
def swe_trajectories(
    run: Annotated[Path, typer.Argument(help="Run folder, or its rollouts.jsonl.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file, which must not exist yet.")],
    least: Annotated[float, typer.Option(help="Least reward of an episode that is written.")] = 1.0,
) -> None:
    """Write episodes of the environment swe as conversations for fine-tuning, in the format of SWE-smith."""
    from llmrl.datagen.swe_trajectories import write
    from llmrl.plugins import converted

    print(f"{write(run, out, converted(float, least, 'data swe-trajectories.least'))} conversations: {out}")


@app.command("swe-tests")
def swe_tests(
    rows: Annotated[Path, typer.Argument(help=".jsonl file with repo, base_commit, patch and test_patch.")],
    out: Annotated[Path, typer.Option(help="Output .jsonl file, which must not exist yet.")],
    repos: Annotated[str, typer.Option(help="Folder of clones.")] = "",
    environment: Annotated[str | None, typer.Option(help="Virtual environment; {repo} is filled in.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Time limit in seconds for the tests of a row.")] = 60.0,
    runs: Annotated[int, typer.Option(min=1, help="Test runs with the patch; flaky tests are left out.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Number of rows tested at a time.")] = 2,
) -> None:
    """Run the tests of repairs without and with their patch, and add FAIL_TO_PASS and PASS_TO_PASS to the rows."""
    from llmrl.datagen.swe_tests import write
    from llmrl.plugins import construct
    from llmrl.swe.testing import TestBed

    options = {"repos": repos, "environment": environment, "timeout_s": timeout_s}
    bed = construct(TestBed, options, "data swe-tests")
    for reason, count in write(rows, out, bed, runs, workers).items():
        print(f"{count:>10}  {reason}")
