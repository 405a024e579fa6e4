"""Commands `llmrl data`: check datasets, and make rows to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of
from llmrl.cli.search_options import Judge, SearchTokens, spec

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=__doc__)


@app.command("check")
def check_data(
    train: Annotated[str, typer.Argument(help="A dataset, a dataset/split, or a file.")],
    against: Annotated[str, typer.Option(help="The test that it must not share problems with.")],
    words: Annotated[int, typer.Option(min=1, help="Length of the runs of words that are compared.")] = 13,
) -> None:
    """Read every row of a dataset and look for problems that it shares with a test; exit code 1 where there are."""
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
    source: Annotated[Path, typer.Argument(help="A clone of a repository, or a .jsonl file in SWE-bench's form.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file to write; its statistics come beside it.")],
    issues: Annotated[Path | None, typer.Option(help="Issues and pull requests as GitHub's API gives them.")] = None,
    clones: Annotated[Path | None, typer.Option(help="For a file: a folder of clones, owner__name or name.")] = None,
    against: Annotated[list[Path] | None, typer.Option(help="A file in SWE-bench's form, not to train on.")] = None,
    repo: Annotated[str | None, typer.Option(help="owner/name; from the remote `origin` by default.")] = None,
    license: Annotated[str, typer.Option(help="Of the repository, for the column of that name.")] = "",
    max_files: Annotated[int, typer.Option(help="That a change edits, tests aside.")] = 5,
    max_lines: Annotated[int, typer.Option(help="That a change takes away or adds, tests aside.")] = 300,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of the issue and all files, three characters each.")] = 12_000,
    context_files: Annotated[int, typer.Option(help="Relevant files that stay as they are, at most.")] = 3,
    ending: Annotated[list[str] | None, typer.Option(help="Of files of code: .py by default.")] = None,
    bugs_only: Annotated[bool, typer.Option(help="Leave out issues that describe no fault.")] = True,
    keep_benchmark: Annotated[bool, typer.Option("--keep-benchmark", help="SWE-bench's repositories, too.")] = False,
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
    condition: Annotated[str, typer.Argument(help="all, backtracking_only, ... incorrect: docs/algorithms/habits.md.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file to write; one that is there is replaced.")],
    count: Annotated[int, typer.Option(min=1, help="Rows.")] = 1000,
    heldout: Annotated[bool, typer.Option("--heldout", help="Of the puzzles that the others never hold.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the puzzles and the words.")] = 0,
) -> None:
    """Write worked countdown puzzles that show chosen habits of thought, to fine-tune on."""
    from llmrl.datagen.priming import write

    write(condition, out, count=count, split="heldout" if heldout else "train", seed=seed)
    print(f"{count} rows: {out}")


@app.command("play")
def play_data(
    env: Annotated[str, typer.Argument(help="A text game: maze, or {name: maze, layout: u}.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet; give it as source.path.")],
    player: Annotated[str, typer.Option(help="oracle or random.")] = "oracle",
    random_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the oracle's moves: drawn at random, 0 to 1.")
    ] = 0.0,
    episodes: Annotated[int, typer.Option(min=1, help="Over the starts, again and again.")] = 1000,
    split: Annotated[str, typer.Option(help="Of the starts: train, heldout or all.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Of the order of starts, and of the player's draws.")] = 0,
) -> None:
    """Write episodes of a text game by a scripted player, to imitate or to learn a critic from: docs/games.md."""
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
    model: Annotated[str, typer.Argument(help="A folder or a hub name: it solves the problems, and completes steps.")],
    data: Annotated[str, typer.Option(help="A dataset: gsm8k, or {name: arithmetic, low: 10}.")],
    reward: Annotated[str, typer.Option(help="With verdicts: math_verify, or {name: numeric, tolerance: 0.1}.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet.")],
    solutions: Annotated[int, typer.Option(min=1, help="Of each problem.")] = 4,
    completions: Annotated[int, typer.Option(min=1, help="Behind each step.")] = 8,
    separator: Annotated[str, typer.Option(help="Ends a step; \\n is a line's end.")] = "\\n",
    soft: Annotated[bool, typer.Option("--soft", help="Shares instead of 0 and 1.")] = False,
    stop_at_first_error: Annotated[
        bool, typer.Option("--stop-at-first-error", help="Nothing is completed behind the first 0.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of solutions and completions.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a solution, completions included.")] = 1024,
    engine: Annotated[str, typer.Option(help="vllm or hf, or a mapping with options.")] = "vllm",
    limit: Annotated[int | None, typer.Option(min=1, help="The first problems only.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
) -> None:
    """Label the steps of solutions by how often completions behind them come to the right answer (Math-Shepherd)."""
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
    model: Annotated[str, typer.Argument(help="A folder or a hub name.")],
    data: Annotated[str, typer.Option(help="A dataset: gsm8k, or {name: arithmetic, low: 10}.")],
    search: Annotated[str, typer.Option(help="A search: plan_mcts:100, or {name: ..., option: ...}.")],
    reward: Annotated[str, typer.Option(help="With verdicts, of whole answers: math_verify.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet, a line for each node.")],
    judge: Judge = None,
    trees: Annotated[int, typer.Option(min=1, help="Of each problem.")] = 1,
    search_tokens: SearchTokens = None,
    temperature: Annotated[float, typer.Option(help="Of every step.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 1024,
    engine: Annotated[str, typer.Option(help="vllm or hf, or a mapping with options.")] = "vllm",
    limit: Annotated[int | None, typer.Option(min=1, help="The first problems only.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
) -> None:
    """Search a dataset's answers with the reference at hand, and store the trees: docs/search.md."""
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
    trees: Annotated[Path, typer.Argument(help="A file that `llmrl data search` wrote.")],
    rows: Annotated[str, typer.Option(help="sft, stepwise or preference.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet.")],
) -> None:
    """Make rows to learn from of stored trees: right answers, labels of steps, or preferences between steps."""
    from llmrl.datagen.search import ROWS, write_rows
    from llmrl.errors import DataError
    from llmrl.plugins import did_you_mean

    if rows not in ROWS:
        raise DataError(f"--rows {rows}{did_you_mean(rows, ROWS)}; expected one of {', '.join(ROWS)}")
    print(f"{write_rows(trees, rows, out)} rows: {out}")


@app.command("columns", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def store_columns(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A recipe whose source is offline.")],
    out: Annotated[Path, typer.Option(help="A folder; give it as source.columns to the run.")],
) -> None:
    """Compute once what a frozen model thinks of stored rows (ref_logprobs), and keep it beside them.

    Overrides of the recipe follow, section.key=value. Runs under `accelerate launch`, too.
    """
    from llmrl.recipe import read
    from llmrl.train.stored_columns import write_columns

    if rows := write_columns(read(recipe, changes_of(context)), out):
        print(f"{rows} rows: {out}")


@app.command("select", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def select_rows(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A recipe whose source is offline, with the trained model.policy.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet; give it as source.replay.path.")],
    keep: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 1000,
    per_problem: Annotated[int | None, typer.Option(min=1, help="Rows of one problem at most.")] = None,
    min_reward: Annotated[float, typer.Option(help="Answers with a reward above it have succeeded.")] = 0.5,
) -> None:
    """Choose rows to rehearse while a later task is learned: right answers that the trained policy finds likeliest.

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
    answers: Annotated[Path, typer.Argument(help="Prompts with several answers each, as `llmrl eval` writes them.")],
    factors: Annotated[Path, typer.Option(help="A YAML list, the most important first; or a recipe of `heron`.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file for the rows; a second call goes on.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge.")] = 2,
) -> None:
    """Write preference rows from answers and an order of factors: docs/heron.md."""
    from llmrl.datagen.heron import factors_of, write

    for line in write(answers, out, factors_of(factors), workers=workers).lines():
        print(line)


@app.command("salmon")
def salmon_data(
    answers: Annotated[Path, typer.Argument(help="Prompts with two answers each, as `llmrl eval` writes them.")],
    judge: Annotated[str, typer.Option(help="A folder, a hub name, or http://host:port/v1#name of a server.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file for the rows; a second call goes on.")],
    principles: Annotated[Path | None, typer.Option(help="A .jsonl file; a few that ship by default.")] = None,
    engine: Annotated[str, typer.Option(help="For a folder or a hub name: vllm or hf.")] = "vllm",
    api: Annotated[str, typer.Option(help="Of a server: chat or completions.")] = "chat",
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a question to the judge.")] = 1536,
    min_chars: Annotated[int, typer.Option(min=0, help="Shorter answers are left out.")] = 16,
    passes: Annotated[int, typer.Option(min=1, help="Rows that a pair may give, each with its own principles.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the principles, negations and flips.")] = 0,
) -> None:
    """Have a model compare answers by principles, and write preference rows: docs/salmon.md."""
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
    run: Annotated[Path, typer.Argument(help="A run's folder, or its rollouts.jsonl.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet.")],
    least: Annotated[float, typer.Option(help="What an episode must have earned.")] = 1.0,
) -> None:
    """Write episodes of the environment swe as conversations to fine-tune on, in the form of SWE-smith."""
    from llmrl.datagen.swe_trajectories import write
    from llmrl.plugins import converted

    print(f"{write(run, out, converted(float, least, 'data swe-trajectories.least'))} conversations: {out}")


@app.command("swe-tests")
def swe_tests(
    rows: Annotated[Path, typer.Argument(help="A .jsonl file with repo, base_commit, patch and test_patch.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file that is not there yet.")],
    repos: Annotated[str, typer.Option(help="A folder of clones.")] = "",
    environment: Annotated[str | None, typer.Option(help="A virtual environment; {repo} is filled in.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Of the tests of a row.")] = 60.0,
    runs: Annotated[int, typer.Option(min=1, help="Behind the patch; tests that end now so, now so are left out.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 2,
) -> None:
    """Run the tests of repairs without and with their patch, and write FAIL_TO_PASS and PASS_TO_PASS into the rows."""
    from llmrl.datagen.swe_tests import write
    from llmrl.plugins import construct
    from llmrl.swe.testing import TestBed

    options = {"repos": repos, "environment": environment, "timeout_s": timeout_s}
    bed = construct(TestBed, options, "data swe-tests")
    for reason, count in write(rows, out, bed, runs, workers).items():
        print(f"{count:>10}  {reason}")
