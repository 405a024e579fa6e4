"""Prompts that are longer than a run allows: found before its first step, in its data and in its benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from llmrl.chat import Chat
from llmrl.columns import filled_by
from llmrl.datafiles.images import images_of
from llmrl.errors import DataError, RecipeError
from llmrl.evaluation.evaluate import problems_of
from llmrl.plugins import build, name_of
from llmrl.protocols import EnvFactory, Modelled
from llmrl.recipe import Recipe
from llmrl.rollout.environments import Foreseen
from llmrl.train.benchmarks import OWN, asked
from llmrl.types import Problem

log = logging.getLogger(__name__)
NAMED = 3
"""Problems that a message names."""
TOKENS_OF_A_MESSAGE = 64
"""Room for what a chat template writes around each message, besides what it writes around the first prompt."""


def problems_to_play(recipe: Recipe, chat: Chat, main: bool) -> list[Problem]:
    """The problems of a run, without those whose prompts are too long where `rollout.drop_long_prompts` says so.

    Environments that have `first_messages` let prompts be known beforehand; in others, and before programs, a prompt
    that is too long is met when it is made, as are those of later turns.

    Args:
        main: this process warns.
    Raises:
        DataError: some prompts are too long, or all.
        RecipeError: prompts have pictures, which a part of the run would not see.
    """
    problems = list(recipe.data.problems()) if recipe.data is not None else []
    _require_sight(recipe, problems)
    if not recipe.source.plays or recipe.agent is not None:
        return problems
    long = longer(_first_shown(recipe.env, problems), chat, recipe.rollout.max_prompt_length)
    if not long:
        return problems
    told = _told("data", long, len(problems), recipe.rollout.max_prompt_length)
    if not recipe.rollout.drop_long_prompts or len(long) == len(problems):
        other = ", or rollout.drop_long_prompts=true to leave them out" if len(long) < len(problems) else ""
        raise DataError(f"{told}; set it to {max(long.values())}{other}")
    if main:
        log.warning("%s; they are left out", told)
    return [problem for problem in problems if problem.id not in long]


def _require_sight(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Refuse pictures where a part of the run reads texts alone.

    Raises:
        RecipeError: there is such a part; names it.
    """
    seen = next((problem for problem in problems if images_of(problem.messages)), None)
    if seen is None:
        return
    critics = sorted(recipe.algorithm.needs() & filled_by("critic").keys())
    blind = ""
    if critics or isinstance(recipe.algorithm, Modelled):
        blind = f"the critic of algorithm {name_of('algorithm', recipe.algorithm)}"
    elif recipe.agent is not None:
        blind = "a program that plays episodes (agent)"
    elif recipe.rollout.search is not None:
        blind = "a search of answers (rollout.search)"
    elif not getattr(recipe.engine, "sees", False):
        blind = f"engine {name_of('engine', recipe.engine)}"
    if blind:
        raise RecipeError(
            f"data: problem {seen.id} has pictures, and {blind} reads texts alone; expected the engine hf or vllm, an "
            "algorithm without a critic, such as grpo or rloo, no agent and no search; or data without pictures"
        )
    if recipe.model.model_revision is not None:
        raise RecipeError(
            f"data: problem {seen.id} has pictures, whose processor is read from the main branch, and "
            f"model.model_revision is {recipe.model.model_revision}; download that revision, and name its folder"
        )


def check_benchmarks(recipe: Recipe, chat: Chat, main: bool) -> None:
    """Look for prompts that are too long in the benchmarks that the run will ask, which would be unjudged each time.

    Raises:
        DataError: there are some, unless `rollout.drop_long_prompts` accepts it; or a benchmark's data cannot be read.
    """
    most = recipe.rollout.max_prompt_length
    for name, each in asked(recipe).items():
        problems = list(islice(problems_of(each.benchmark, name), recipe.eval.limit))
        long = longer(_first_shown(build("env", each.benchmark.env), problems), chat, most)
        if not long:
            continue
        told = _told(_place(name), long, len(problems), most)
        if not recipe.rollout.drop_long_prompts:
            raise DataError(
                f"{told}; set it to {max(long.values())}, or rollout.drop_long_prompts=true to count them as unjudged"
            )
        if main:
            log.warning("%s; they are not asked, and are unjudged", told)


def _place(name: str) -> str:
    """The place of a benchmark in a recipe."""
    return "eval.data" if name == OWN else f"eval.benchmarks {name}"


def _first_shown(env: EnvFactory, problems: Sequence[Problem]) -> list[Problem]:
    """The problems with the messages that an environment shows first; none where it does not know them beforehand."""
    if not isinstance(env, Foreseen):
        return []
    return [replace(problem, messages=tuple(env.first_messages(problem))) for problem in problems]


def longer(problems: Sequence[Problem], chat: Chat, most: int) -> dict[str, int]:
    """Tokens of the prompts that have more than `most`, by the problem's id.

    A prompt with fewer bytes than that, and room for its template, is not encoded: no token is less than a byte. One
    with pictures is.
    """
    if not problems:
        return {}
    around = len(chat.prompt_ids(problems[0].messages, pictures=True))
    long: dict[str, int] = {}
    for problem in problems:
        contents = [str(message.get("content") or "") for message in problem.messages]
        bound = _bytes(contents) + around + TOKENS_OF_A_MESSAGE * len(contents)
        if bound > most or images_of(problem.messages):
            tokens = len(chat.prompt_ids(problem.messages, pictures=True))
            long |= {problem.id: tokens} if tokens > most else {}
    return long


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _told(where: str, long: dict[str, int], of: int, most: int) -> str:
    first, *others = sorted(long, key=lambda name: -long[name])[:NAMED]
    also = f" (then {', '.join(others)})" if others else ""
    return (
        f"{where}: {len(long)} of {of} prompts are longer than rollout.max_prompt_length {most}, the longest of "
        f"problem {first} with {long[first]} tokens{also}"
    )
