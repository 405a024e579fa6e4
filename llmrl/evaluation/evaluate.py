"""Play benchmarks: each problem some times, judged, written down at once, picked up where it stopped.

`<benchmark>.jsonl` has one line per completion: `problem` (id), `sample`, `seed`, `prompt` (messages), `completion`,
`tokens`, `finish` (null where nothing was asked), `verdict`, `value` (null where nobody could judge), `reason`, `final`
(what a vote counts) and `answer` (the reference). Beside it, `config.json` has the settings and `results.json` the
numbers, each by benchmark.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from llmrl.answers.voting import final_answer, normal
from llmrl.errors import RewardError
from llmrl.evaluation.generators import Generator, Played
from llmrl.evaluation.records import Records, claim, read_json, write_json
from llmrl.evaluation.summary import summarise
from llmrl.plugins import build
from llmrl.protocols import Benchmark, Reward
from llmrl.scoring.verdicts import mark_truncated
from llmrl.types import Problem, Sampling, Score

SEVERAL = {"temperature": 0.6, "top_p": 0.95}  # where a greedy benchmark is asked for several samples, as in 2501.12948
OnSample = Callable[[int, int], None]  # completions done, completions in all


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to ask of a benchmark. None stands for the benchmark's own."""

    samples: int | None = None  # completions per problem
    limit: int | None = None  # the first problems only
    seed: int = 0
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("samples", "limit", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value}: expected at least 1")

    def sampling(self, benchmark: Benchmark) -> Sampling:
        """How each completion is sampled, but for its seed."""
        own = benchmark.sampling
        if (self.samples or benchmark.samples) > 1 and own.temperature == 0 and self.temperature is None:
            own = replace(own, **SEVERAL)  # type: ignore[arg-type]
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return replace(own, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


async def evaluate(
    name: str,
    player: Generator,
    reward: Reward,
    out: Path,
    plan: Plan | None = None,
    *,
    concurrency: int = 256,
    on_sample: OnSample | None = None,
) -> dict[str, Any]:
    """Play a benchmark, or what is still missing of it in `out`, and give its result: see `_summary.summarise`.

    A completion depends on the seed, the problem and the number of the sample alone, never on batching or resuming.

    Args:
        name: of the benchmark.
        player: who answers.
        reward: the benchmark's own, lifted.
        out: a folder; several benchmarks may share it.
        plan: how much to ask.
        concurrency: completions in flight.
        on_sample: called after each.
    Raises:
        LlmrlError: the output cannot be written, or was begun with other settings.
        RewardError: the reward gives no verdicts.
        EngineError: the player failed; what was finished is kept.
    """
    plan = plan or Plan()
    benchmark: Benchmark = build("benchmark", name)
    samples, sampling = plan.samples or benchmark.samples, plan.sampling(benchmark)
    problems = list(islice(build("data", benchmark.data, f"benchmark {name}: data").problems(), plan.limit))
    file = file_name(name)
    with Records(out / f"{file}.jsonl") as records:
        claim(out, file, _config(benchmark, sampling, player, plan, samples), begun=bool(records.rows))
        wanted = [(problem, index) for problem in problems for index in range(samples)]
        missing = [each for each in wanted if (each[0].id, each[1]) not in records.rows]
        done = len(wanted) - len(missing)

        async def work(queue: Iterator[tuple[Problem, int]]) -> None:
            nonlocal done
            for problem, index in queue:
                seeded = replace(sampling, seed=seed_of(plan.seed, problem.id, index))
                played = await player.generate(problem, seeded)
                score = await _score(reward, played, name)
                records.append(_record(played, score, index, seeded.seed))
                done += 1
                if on_sample is not None:
                    on_sample(done, len(wanted))

        queue = iter(missing)
        await _all([work(queue) for _ in range(min(concurrency, len(missing)))])
        result = summarise(problems, records.rows, samples, benchmark.by, plan.seed)
    result = {"about": benchmark.about, **result}
    write_json(out / "results.json", {**read_json(out / "results.json"), file: result})
    return result


def seed_of(seed: int, problem: str, sample: int) -> int:
    """The seed of one completion, 0 to 2**31 - 1."""
    digest = hashlib.blake2b(f"{seed}/{problem}/{sample}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


def file_name(benchmark: str) -> str:
    """A benchmark's name as it stands in files and results, where `:` becomes a full stop."""
    return re.sub(r"[^\w.-]+", ".", benchmark)


async def _all(jobs: list[Any]) -> None:
    """Run all; the first failure ends the others before it is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _score(reward: Reward, played: Played, name: str) -> Score:
    """The score of a completion.

    Raises:
        RewardError: it has a value and no verdict.
    """
    if played.trajectory.status == "error":
        return Score(None, "error", reason=played.trajectory.reason)
    (score,) = await reward.score([played.trajectory])
    if score.verdict is None and score.value is not None:
        raise RewardError(
            f"benchmark {name}: its reward gives no verdict (correct, wrong ...), which a benchmark counts"
        )
    return mark_truncated(played.trajectory, score)


def _record(played: Played, score: Score, sample: int, seed: int | None) -> dict[str, Any]:
    problem, turns = played.trajectory.problem, played.trajectory.turns
    return {
        "problem": problem.id,
        "sample": sample,
        "seed": seed,
        "prompt": [dict(message) for message in problem.messages],
        "completion": played.trajectory.text,
        "tokens": played.tokens,
        "finish": turns[-1].completion.finish if turns else None,
        "verdict": score.verdict,
        "value": score.value,
        "parts": dict(score.parts),
        "reason": score.reason,
        "final": final_answer(played.trajectory.text) if score.answer is None else normal(score.answer),
        "answer": problem.answer,
    }


def _config(benchmark: Benchmark, sampling: Sampling, player: Generator, plan: Plan, samples: int) -> Mapping[str, Any]:
    return {
        "player": dict(player.settings),
        "data": dict(benchmark.data),
        "reward": dict(benchmark.reward),
        "sampling": asdict(sampling),
        "seed": plan.seed,
        "asked": {"samples": samples, "limit": plan.limit},
    }
