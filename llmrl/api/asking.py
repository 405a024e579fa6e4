"""Ask models from Python: benchmarks, and prompts of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrl import aio
from llmrl.api.given import as_plugin
from llmrl.api.results import BenchmarkResult, Generation, TrainedRun, evaluated_in
from llmrl.data.jsonl import Pictures, messages
from llmrl.errors import RecipeError
from llmrl.evaluation.evaluate import seed_of
from llmrl.evaluation.run import EvalSetup, Plan, local_player, run
from llmrl.plugins import construct
from llmrl.protocols import Benchmark
from llmrl.run_folder.libraries import kept_apart
from llmrl.run_folder.records import file_name
from llmrl.train.run_export import is_run, model_of
from llmrl.types import Problem, Sampling

Model = str | Path | TrainedRun
_PLAN = ("samples", "limit", "seed", "temperature", "top_p", "max_tokens")


def evaluate(
    model: Model,
    benchmarks: str | Sequence[str] = (),
    *,
    data: Any = None,
    reward: Any = None,
    name: str = "mine",
    out: str | Path | None = None,
    verbose: bool = False,
    progress: bool = False,
    **options: Any,
) -> dict[str, BenchmarkResult]:
    """Ask a model the problems of benchmarks, as `llmrl eval` does; the results by benchmark.

    Args:
        model: a folder, that of a run too, a hub name, the URL of a server, or what `llmrl.train` returned.
        benchmarks: names such as `gsm8k`, one or several.
        data, reward: a benchmark of your own, called `name`: rows as `llmrl.train` takes them, and a reward. One that
            gives numbers and no verdicts is measured by its mean.
        out: a folder for every answer; a second call there goes on. `runs/eval/<model>` by default.
        options: `samples`, `limit`, `seed`, `temperature`, `top_p`, `max_tokens`, and the fields of
            `llmrl.evaluation.run.EvalSetup`, such as `engine="hf"` and `system_prompt`.
    Raises:
        LlmrlError: as the command line prints it.
    """
    chosen: dict[str, Benchmark | None] = dict.fromkeys([benchmarks] if isinstance(benchmarks, str) else benchmarks)
    if (data is None) != (reward is None):
        raise RecipeError("evaluate: data without reward, or the other way round; expected both for a benchmark")
    if data is not None:
        chosen[name] = _own(data, reward)
    plan = construct(Plan, {key: options.pop(key) for key in _PLAN if key in options}, "evaluate")
    setup = construct(EvalSetup, options, "evaluate")
    with kept_apart(verbose=verbose):
        asked = _folder(model)
        folder = (
            Path(out)
            if out is not None
            else Path("runs") / "eval" / asked.replace("://", "-").strip("/.").replace("/", "-")
        )
        run(asked, chosen, folder, plan, setup, quiet=not progress)
    results = evaluated_in(folder)
    return {each: results[file_name(each)] for each in chosen}


def _own(data: Any, reward: Any) -> Benchmark:
    """The benchmark of objects: they stand where specs do, and are taken as they are."""
    given: Any = as_plugin("reward", reward)
    return Benchmark(data=as_plugin("data", data), reward=given, judged=None, about="given from Python")


def generate(
    model: Model,
    prompts: Any,
    *,
    samples: int = 1,
    max_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    stop: Sequence[str] = (),
    seed: int = 0,
    verbose: bool = False,
    **options: Any,
) -> list[Generation]:
    """Answer prompts through the model's chat template; the answers in the order of the prompts.

    Args:
        model: a folder, that of a run too, a hub name, or what `llmrl.train` returned.
        prompts: a text, a list of messages, or a list of these.
        samples: answers to each prompt, next to each other.
        max_tokens, temperature, top_p, top_k, min_p, stop: of the sampling; temperature 0 is greedy.
        seed: the same seed gives the same answers.
        options: fields of `llmrl.evaluation.run.EvalSetup`, such as `engine="hf"` and `system_prompt`.
    Raises:
        LlmrlError: no such model or engine, or an empty prompt.
    """
    asked = _prompts(prompts)
    problems = [
        Problem(id=str(index), messages=messages(each, "", f"prompt {index}", Pictures()))
        for index, each in enumerate(asked)
    ]
    sampling = Sampling(
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, max_tokens=max_tokens, stop=tuple(stop)
    )
    setup = construct(EvalSetup, options, "generate")
    with kept_apart(verbose=verbose), local_player(_folder(model), setup, seed, max_tokens) as player:

        async def answer(index: int, sample: int) -> Generation:
            seeded = replace(sampling, seed=seed_of(seed, str(index), sample))
            played = (await player.generate(problems[index], seeded)).trajectory
            if not played.turns:
                raise RecipeError(f"prompt {index}: {played.reason}; raise max_prompt_tokens")
            return Generation(asked[index], played.text, played)

        async def all_of_them() -> list[Generation]:
            wanted = [answer(index, sample) for index in range(len(asked)) for sample in range(samples)]
            return list(await asyncio.gather(*wanted))

        return aio.wait(all_of_them())


def _folder(model: Model) -> str:
    """The folder, name or address that is asked; of a run the final model, or the best that it has kept."""
    path = model.folder if isinstance(model, TrainedRun) else Path(model)
    return str(model_of(path, None, say=lambda _told: None)) if is_run(path) else str(model)


def _prompts(prompts: Any) -> list[Any]:
    if isinstance(prompts, str):
        return [prompts]
    given = list(prompts)
    return [given] if given and isinstance(given[0], Mapping) else given
