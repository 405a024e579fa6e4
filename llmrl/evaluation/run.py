"""Evaluate a model folder, a hub name or the URL of a server: the command `llmrl eval`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llmrl.aio import wait
from llmrl.chat import Chat, load_stop_token_ids, load_tokenizer
from llmrl.errors import CheckpointError, RecipeError
from llmrl.evaluation.evaluate import OnSample, Plan, evaluate, problems_of
from llmrl.evaluation.generators import EngineGenerator, Generator, in_environment, in_no_environment
from llmrl.evaluation.records import settings_in
from llmrl.evaluation.remote import RemoteGenerator
from llmrl.evaluation.search import SearchGenerator
from llmrl.evaluation.summary import table
from llmrl.evaluation.swe_bench import SweOptions, agentless, graded, require_harness, run_harness, write_predictions
from llmrl.plugins import build, spec_of
from llmrl.plugins import names as known_names
from llmrl.protocols import Benchmark
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.searcher import Searcher, parse_search
from llmrl.recipe import RolloutOptions
from llmrl.recipe.ranges import Count, Seconds
from llmrl.run_folder.records import file_name
from llmrl.scoring.manager import GradingPool, as_group_reward

__all__ = ["EvalSetup", "Plan", "evaluate", "run"]

PROBE = 1 << 16  # bytes read at each of three places of a weights file


@dataclass(frozen=True, kw_only=True)
class EvalSetup:
    """Settings of asking a model. None stands for the model's own setting, or one that fits it."""

    engine: Mapping[str, Any] | str = "vllm"  # for folders and hub names
    dtype: Literal["float32", "float16", "bfloat16", "float64"] | None = None
    max_model_len: Count | None = None  # tokens of prompt and completion
    max_prompt_tokens: Count = 2048  # a longer prompt is not asked, and counted as unjudged
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    concurrency: Count | None = None  # completions in flight; None: 256 for an engine, 32 for a server
    reward_workers: Count = 2  # processes
    reward_timeout_s: Seconds = 5.0  # per completion
    served_model: str = ""  # by a server of several
    api_key: str | None = None  # for a server; None: OPENAI_API_KEY
    search: Mapping[str, Any] | str | None = None  # a strategy of search at test time, such as best_of_n:8
    judge: Mapping[str, Any] | str | None = None  # a reward that needs no reference answer, for the search
    search_tokens: Count | None = None  # that the search of a problem may generate
    swe: SweOptions = field(default_factory=SweOptions)  # for SWE-bench


def run(
    model: str,
    benchmarks: Sequence[str] | Mapping[str, Benchmark | None],
    out: Path,
    plan: Plan | None = None,
    setup: EvalSetup | None = None,
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate benchmarks; the results by name, also in `out/results.json`, and a table on screen unless `quiet`.

    Args:
        model: a folder, a hub name, or `http://host:port/v1` of a server with OpenAI's chat completions.
        benchmarks: names; or by name benchmarks that are made already, None for the one that has the name.
        out: a folder; completions that it holds already are not generated again.
        plan: how much to ask.
        setup: how to ask.
    Raises:
        RecipeError: no such benchmark, reward or engine.
        CheckpointError: the model folder is not complete.
        LlmrlError: see `evaluate`.
    """
    plan, setup = plan or Plan(), setup or EvalSetup()
    if setup.search is not None:
        plan = replace(plan, sampled=True)
    chosen = _chosen(benchmarks)
    _require_parts(model, chosen, Path(out), setup)
    chosen = {name: graded(each, setup.swe) if each.method == "agentless" else each for name, each in chosen.items()}
    if setup.swe.grade == "harness":
        require_harness(setup.swe.harness)
    results = wait(_run(model, chosen, Path(out), plan, setup, quiet))
    if not quiet:
        from rich.console import Console

        Console().print(table(results))
        print(f"completions, config.json and results.json: {out}")
    return results


def _chosen(names: Sequence[str] | Mapping[str, Benchmark | None]) -> dict[str, Benchmark]:
    """Benchmarks by name.

    Raises:
        RecipeError: there are none, or not of that name.
    """
    if not names:
        raise RecipeError(f"--benchmarks: expected at least one of {', '.join(known_names('benchmark'))}")
    made = names if isinstance(names, Mapping) else dict.fromkeys(names)
    chosen = {name: made[name] or build("benchmark", name, "--benchmarks") for name in made}
    for name, benchmark in chosen.items():
        if not isinstance(benchmark, Benchmark):
            raise RecipeError(f"--benchmarks: {name} is {type(benchmark).__name__}; expected a Benchmark")
    return chosen


def _require_parts(model: str, chosen: Mapping[str, Benchmark], out: Path, setup: EvalSetup) -> None:
    """Refuse what cannot work before anything is loaded: options of plug-ins, data, and the output folder.

    Raises:
        LlmrlError: the first fault.
    """
    remote = _is_remote(model)
    if not remote:
        build("engine", setup.engine, "--engine")
    if setup.search is not None:
        build("search", parse_search(setup.search) if isinstance(setup.search, str) else setup.search, "--search")
    if setup.judge is not None:
        build("reward", setup.judge, "--judge")
    for name, benchmark in chosen.items():
        if (remote or setup.search is not None) and in_environment(benchmark):
            raise in_no_environment(benchmark, name)
        next(problems_of(benchmark, name))
    settings_in(out)


def _is_remote(model: str) -> bool:
    return model.startswith(("http://", "https://"))


async def _run(
    model: str, chosen: Mapping[str, Benchmark], out: Path, plan: Plan, setup: EvalSetup, quiet: bool
) -> dict[str, Any]:
    remote = _is_remote(model)
    async with AsyncExitStack() as stack:
        plugins = {name: build("reward", each.reward, f"benchmark {name}: reward") for name, each in chosen.items()}
        timeout_s = max([setup.reward_timeout_s, *(getattr(each, "item_timeout_s", 0.0) for each in plugins.values())])
        pool = stack.enter_context(GradingPool(setup.reward_workers, timeout_s))
        rewards = {name: as_group_reward(plugin, pool) for name, plugin in plugins.items()}
        longest = max(_tokens(benchmark, plan) for benchmark in chosen.values())
        if setup.search is not None:
            player: Generator = stack.enter_context(local_search(model, setup, plan.seed, longest, pool))
        elif remote:
            player = await stack.enter_async_context(_remote(model, setup))
        else:
            player = stack.enter_context(local_player(model, setup, plan.seed, longest))
        results = {}
        concurrency = setup.concurrency or (32 if remote else 256)
        for name, reward in rewards.items():
            with _progress(name, quiet) as on_sample, _answering(name, chosen[name], player, setup, out) as answering:
                results[file_name(name)] = await evaluate(
                    name,
                    answering,
                    reward,
                    out,
                    plan,
                    concurrency=concurrency,
                    on_sample=on_sample,
                    benchmark=chosen[name],
                )
            if chosen[name].method == "agentless":
                predictions = write_predictions(name, out, setup.served_model or model)
                if setup.swe.grade == "harness":
                    results[file_name(name)] = run_harness(name, chosen[name], out, predictions, setup.swe.harness)
        return results


def _answering(
    name: str, benchmark: Benchmark, player: Generator, setup: EvalSetup, out: Path
) -> AbstractContextManager[Generator]:
    """The generator of a benchmark's answers."""
    return agentless(name, player, setup.swe, out) if benchmark.method == "agentless" else nullcontext(player)


def _tokens(benchmark: Benchmark, plan: Plan) -> int:
    """Tokens of an episode behind its first prompt: completions, and the replies between them."""
    replies = RolloutOptions().max_reply_length * (benchmark.max_turns - 1)
    return plan.sampling(benchmark).max_tokens * benchmark.max_turns + replies


def _remote(url: str, setup: EvalSetup) -> RemoteGenerator:
    return RemoteGenerator(
        url,
        setup.served_model,
        setup.api_key or os.environ.get("OPENAI_API_KEY"),
        setup.system_prompt,
        setup.chat_template_kwargs,
        concurrency=setup.concurrency or 32,
    )


@contextmanager
def local_player(model: str, setup: EvalSetup, seed: int, max_tokens: int) -> Iterator[EngineGenerator]:
    """Start an engine, give a generator that uses it, and stop it in the end."""
    chat = Chat(load_tokenizer(model), setup.system_prompt, setup.chat_template_kwargs)
    config = _model_config(model)
    positions = getattr(config, "max_position_embeddings", None) or setup.max_prompt_tokens + max_tokens
    length = setup.max_model_len or min(positions, setup.max_prompt_tokens + max_tokens)
    dtype = setup.dtype or str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    spec = {"name": setup.engine} if isinstance(setup.engine, str) else dict(setup.engine)
    engine = build("engine", spec, "engine").start(
        model, dtype=dtype, seed=seed, max_model_len=length, stop_token_ids=load_stop_token_ids(model, chat)
    )
    settings = {
        "model": model,
        "fingerprint": fingerprint(Path(model)),
        "engine": spec | ({"critic_fingerprint": fingerprint(Path(spec["critic"]))} if spec.get("critic") else {}),
        "dtype": dtype,
        "max_model_len": setup.max_model_len,
        "max_prompt_tokens": setup.max_prompt_tokens,
        "system_prompt": setup.system_prompt,
        "chat_template_kwargs": dict(setup.chat_template_kwargs),
    }
    try:
        yield EngineGenerator(engine, chat, settings, min(setup.max_prompt_tokens, length - 1), length)
    finally:
        engine.close()


@contextmanager
def local_search(
    model: str, setup: EvalSetup, seed: int, max_tokens: int, pool: GradingPool
) -> Iterator[SearchGenerator]:
    """Start an engine, give a generator that searches with it, and stop it in the end.

    Raises:
        RecipeError: no such strategy or judge, no judge where one is needed, or a server, which gives no token ids.
    """
    if _is_remote(model):
        raise RecipeError(f"{model}: a search needs token ids, which a server's chat gives none of; give the folder")
    spec = parse_search(setup.search) if isinstance(setup.search, str) else dict(setup.search or {})
    strategy = build("search", spec, "search")
    judge = None if setup.judge is None else as_group_reward(build("reward", setup.judge, "judge"), pool)
    room = max_tokens * getattr(strategy, "contexts", 1)
    with local_player(model, setup, seed, room) as player:
        searcher = Searcher(
            engine=player.engine,
            chat=player.chat,
            strategy=strategy,
            judge=None if judge is None else AnswerJudge(judge),
            budget=setup.search_tokens,
            max_model_len=player.max_model_len,
        )
        settings = {"search": spec_of("search", strategy), "judge": setup.judge, "search_tokens": setup.search_tokens}
        yield SearchGenerator(searcher, {**player.settings, **settings}, player.max_prompt_tokens)


def _model_config(model: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model}: no model there: {str(error).splitlines()[0]}; expected config.json") from error


def fingerprint(folder: Path) -> str | None:
    """Hash that tells model folders of the same name apart: names, sizes and pieces of files. None for a hub name."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".safetensors", ".bin", ".jinja"):
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}/".encode())
        with path.open("rb") as file:
            for place in (0, size // 2, max(0, size - PROBE)):
                file.seek(place)
                digest.update(file.read(PROBE))
    return digest.hexdigest()[:16]


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[OnSample | None]:
    """Show progress: a bar on a terminal, a line for every tenth elsewhere, nothing when quiet."""
    if quiet:
        yield None
    elif sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield (
            lambda done, total: (
                print(f"{name}: {done}/{total}", flush=True)
                if done == total or done * 10 // total > (done - 1) * 10 // total
                else None
            )
        )
