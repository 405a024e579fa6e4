"""Curricula in sources: every rank draws alike, a resumed run goes on exactly, and restarts and staleness go along."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from llmrl import aio
from llmrl.chat import Chat
from llmrl.engines.scripted import ScriptedEngine
from llmrl.errors import DataError, RecipeError
from llmrl.plugins import build, spec_of
from llmrl.recipe import RolloutOptions
from llmrl.rollout.curriculum import CurriculumSampler
from llmrl.rollout.source import RolloutSource
from llmrl.sources.online import Online
from llmrl.tiny import make_tokenizer
from llmrl.train import state_file
from llmrl.types import Problem, Sampling, Score, Trajectory
from tests.builders import Gather, Grader, on_ranks, scripted_worker, source_context

OPTIONS = RolloutOptions(prompts_per_step=4, num_generations=2, max_completion_length=24)
CHAT = Chat(make_tokenizer())
PROBLEMS = [
    Problem(
        id=f"sum/{i}",
        messages=[{"role": "user", "content": f"{i}+{'1' * (1 + i % 5)}="}],
        info={"digits": 1 + i % 5, "perturbation": f"kind {i % 3}"},
    )
    for i in range(20)
]
CURRICULA: list[dict[str, Any]] = [
    {"name": "pass_rate_window"},
    {"name": "alp_bins", "bins": 4},
    {"name": "alp_gmm", "features": ["length", "digits"], "fit_every": 8, "max_components": 4},
    {"name": "mbtl", "family": "digits", "stage_steps": 2},
    {"name": "qarl", "window": 4},
]
EVEN = Grader(lambda one: one.text.count("x") % 2 == 0)


def lines(_prompt: str, sampling: Sampling) -> str:
    assert sampling.seed is not None
    return "ab\nc" + "x" * (sampling.seed % 4) + "\ndone"


def start(
    curriculum: dict[str, Any] | None,
    name: str = "online",
    rank: tuple[int, int] = (0, 1),
    gather: Gather = lambda groups: groups,
    seed: int = 0,
    **options: Any,
) -> tuple[RolloutSource, ScriptedEngine]:
    settings: Online = build("source", {"name": name, "curriculum": curriculum, **options})
    worker = scripted_worker(CHAT, lines, EVEN, OPTIONS, concurrent=True)
    source = settings.start(source_context(worker, PROBLEMS, OPTIONS, rank=rank, gather=gather, seed=seed))
    return source, cast(ScriptedEngine, worker.engine)


def played(source: RolloutSource) -> list[Any]:
    return [(one.group, one.problem.id, one.text) for group in source.played for one in group]


def run(source: RolloutSource, engine: ScriptedEngine, steps: range) -> list[Any]:
    """Each step's episodes and metrics."""
    seen = []
    for step in steps:
        source.next(step)
        if source.scheduler._bound:
            aio.wait(source.scheduler._settled())  # so that versions are no matter of timing
        engine.version = step + 1
        seen.append((played(source), dict(source.metrics)))
    return seen


@pytest.mark.parametrize("spec", CURRICULA, ids=lambda spec: spec["name"])
def test_two_ranks_choose_and_observe_alike(spec: dict[str, Any]) -> None:
    alone = run(*start(spec), range(6))

    aio.background()  # ranks are threads here, and share the loop of the process

    def on_rank(rank: tuple[int, int], gather: Gather) -> list[Any]:
        return run(*start(spec, rank=rank, gather=gather), range(6))

    assert on_ranks(2, on_rank) == [alone, alone]
    assert run(*start(spec, seed=1), range(6)) != alone


@pytest.mark.parametrize("bound", [0, 2])
@pytest.mark.parametrize("spec", CURRICULA, ids=lambda spec: spec["name"])
def test_a_restored_source_goes_on_as_if_nothing_had_happened(spec: dict[str, Any], bound: int, tmp_path: Path) -> None:
    def made() -> tuple[RolloutSource, ScriptedEngine]:
        return start(spec, "asynchronous", max_staleness=bound, dynamic_sampling=True, max_refills=1)

    whole, engine = made()
    before = run(whole, engine, range(4))
    state_file.write(tmp_path, whole.state())
    after = run(whole, engine, range(4, 7))
    whole.close()
    again, other = made()
    again.restore(state_file.read(tmp_path))
    other.version = 4
    assert run(again, other, range(4, 7)) == after
    assert before != after
    again.close()


@pytest.mark.parametrize("spec", CURRICULA, ids=lambda spec: spec["name"])
def test_a_step_that_is_taken_back_is_played_again(spec: dict[str, Any]) -> None:
    source, engine = start(spec)
    run(source, engine, range(3))
    source.mark()
    first = run(source, engine, range(3, 5))
    source.rewind()
    assert run(source, engine, range(3, 5)) == first


def test_restarts_go_on_from_what_a_curriculum_drew() -> None:
    source, engine = start({"name": "mbtl", "family": "digits", "stage_steps": 2}, "restarts", share=0.5)
    steps = run(source, engine, range(6))
    assert sum(name.startswith("r") for groups, _ in steps for name, *_ in groups) > 0
    assert {"restarts/frac", "curriculum/family", "curriculum/pass_rate"} <= set(steps[-1][1])


def test_all_are_drawn_once_before_any_is_drawn_twice_in_a_step() -> None:
    source, _ = start({"name": "pass_rate_window"})
    drawn = Counter(each.problem.id for each in source.sampler.next(20, 0))
    assert drawn == {problem.id: 1 for problem in PROBLEMS}


def test_what_nobody_could_judge_is_no_failure() -> None:
    """A curriculum hears of judged groups alone; of a group some of whose episodes were judged, of these."""
    source, _ = start({"name": "pass_rate_window"})
    sampler = cast(CurriculumSampler, source.sampler)
    draws = sampler.next(2, 0)
    lost = [Trajectory(problem=draws[0].problem, turns=[], status="done", score=Score(None, "error")) for _ in "ab"]
    won = [replace(lost[0], problem=draws[1].problem, score=Score(1.0, "correct")), lost[0]]
    seen = [sampler.observe(0, [(draws[0], lost)]), sampler.observe(0, [(draws[0], lost), (draws[1], won)])]
    assert [each["curriculum/tried"] for each in seen] == [0.0, 1 / len(PROBLEMS)]
    assert [each.get("curriculum/pass_rate") for each in seen] == [None, 1.0]


def test_a_curriculum_is_written_back_and_refused_by_name() -> None:
    spec = {"name": "online", "curriculum": {"name": "alp_bins", "bins": 7}}
    written = spec_of("source", build("source", spec))
    assert written["curriculum"]["bins"] == 7
    assert build("source", written) == build("source", spec)
    with pytest.raises(RecipeError, match=r"curriculum: unknown curriculum 'alp_bin'; did you mean 'alp_bins'"):
        build("source", {"name": "online", "curriculum": {"name": "alp_bin"}})


def test_two_problems_with_one_id_are_refused() -> None:
    with pytest.raises(DataError, match="two problems of the data have one id"):
        CurriculumSampler([PROBLEMS[0], PROBLEMS[0]], 0, build("curriculum", "pass_rate_window"))
