"""Run benchmarks: each problem is answered some times, judged, recorded at once, and resumed where it stopped.

`<benchmark>.jsonl` has one line per completion, in the order of the dataset once all are there: `problem` (id),
`sample`, `seed`, `prompt` (messages), `completion`, `tokens`, `finish` (null without a completion), `verdict`,
`value` (null where it could not be judged), `reason`, `final` (the answer that votes) and `answer` (the reference);
of a benchmark with several turns also `turns`, `status` and `cut_off`; `value` is all that the episode earned.
Beside it, `config.json` has the settings and `results.json` the numbers, each by benchmark.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from llmrl.answers.voting import final_answer, normal
from llmrl.errors import DataError, LlmrlError, RewardError
from llmrl.evaluation.generators import Generator, Played, playing
from llmrl.evaluation.records import Key, Records, claim, read_json, write_json
from llmrl.evaluation.summary import Record, summarise
from llmrl.plugins import build, written
from llmrl.protocols import Benchmark, Reward
from llmrl.recipe.ranges import Count, PositiveShare, Seed, Temperature
from llmrl.run_folder.jsonl import plain
from llmrl.run_folder.records import file_name
from llmrl.scoring.verdicts import mark_truncated
from llmrl.types import Problem, Sampling, Score

SEVERAL = {"temperature": 0.6, "top_p": 0.95}  # where a greedy benchmark is asked for several samples, as in 2501.12948
OnSample = Callable[[int, int], None]  # completions done, completions in all


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of an evaluation. None stands for the benchmark's own."""

    samples: Count | None = None  # completions per problem
    limit: Count | None = None  # the first problems only
    seed: Seed = 0
    temperature: Temperature | None = None
    top_p: PositiveShare | None = None
    max_tokens: Count | None = None
    sampled: bool = False  # a greedy benchmark is sampled for a single completion, too: a search draws several for it

    def __post_init__(self) -> None:
        for name in ("samples", "limit", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value}: expected at least 1")

    def sampling(self, benchmark: Benchmark) -> Sampling:
        """Sampling of each completion, but for its seed."""
        own = benchmark.sampling
        several = self.sampled or (self.samples or benchmark.samples) > 1
        if several and own.temperature == 0 and self.temperature is None:
            own = replace(own, **SEVERAL)  # type: ignore[arg-type]
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return replace(own, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class BenchmarkRun:
    """A benchmark under a plan, with generator and reward: everything but the place of its records.

    A completion depends on the seed, the problem and the number of the sample alone, never on batching, resuming or
    the process that asks for it; so the answers may be divided in any way.
    """

    name: str
    benchmark: Benchmark
    player: Generator
    reward: Reward  # the benchmark's own, of groups
    plan: Plan
    problems: Sequence[Problem]

    @classmethod
    def of(
        cls, name: str, player: Generator, reward: Reward, plan: Plan, benchmark: Benchmark | None = None
    ) -> BenchmarkRun:
        """Load a benchmark's problems.

        Args:
            benchmark: in place of the one that has the name, as with another reward.
        Raises:
            RecipeError: no such benchmark, or no such data.
        """
        benchmark = build("benchmark", name) if benchmark is None else benchmark
        player = playing(player, benchmark, name)
        problems = list(islice(problems_of(benchmark, name), plan.limit))
        return cls(name=name, benchmark=benchmark, player=player, reward=reward, plan=plan, problems=problems)

    @property
    def samples(self) -> int:
        """Completions per problem."""
        return self.plan.samples or self.benchmark.samples

    def missing(self, recorded: Collection[Key]) -> list[tuple[Problem, int]]:
        """Problems and sample numbers that have no record yet, in the order of the dataset."""
        wanted = ((problem, sample) for problem in self.problems for sample in range(self.samples))
        return [(problem, sample) for problem, sample in wanted if (problem.id, sample) not in recorded]

    @contextmanager
    def records(self, out: Path) -> Iterator[Records]:
        """Open the records of this benchmark in a folder that several may share; one process at a time.

        Raises:
            LlmrlError: they cannot be written, or were begun with other settings, or are of other problems.
        """
        file, sampling = file_name(self.name), self.plan.sampling(self.benchmark)
        with Records(out / f"{file}.jsonl") as records:
            config = _config(self.benchmark, sampling, self.player, self.plan, self.samples)
            claim(out, file, config, begun=bool(records.rows))
            self._require_same_problems(records)
            yield records

    def _require_same_problems(self, records: Records) -> None:
        """Check that the problems still read as they did when they were answered.

        Raises:
            LlmrlError: one does not.
        """
        for problem in self.problems:
            for sample in range(self.samples):
                record = records.rows.get((problem.id, sample))
                asked = {"prompt": [dict(message) for message in problem.messages], "answer": problem.answer}
                if record is not None and plain(asked) != {name: record.get(name) for name in asked}:
                    raise LlmrlError(
                        f"{records.path}: {problem.id} has another prompt or answer now than when it was answered: the "
                        "data has changed. Choose another output, or remove the file to begin anew"
                    )

    def keeper(self, records: Records, on_sample: OnSample | None = None) -> Callable[[Record], None]:
        """Make the function that writes a record and reports progress to `on_sample`: records so far, and in all."""
        total = len(self.missing(()))
        ended = count(total - len(self.missing(records.rows)) + 1)

        def keep(record: Record) -> None:
            records.append(record)
            if on_sample is not None:
                on_sample(next(ended), total)

        return keep

    async def answer(
        self, asked: Sequence[tuple[Problem, int]], keep: Callable[[Record], None], concurrency: int = 256
    ) -> None:
        """Generate and judge completions, at most `concurrency` at once; `keep` gets the record of each as it ends.

        Raises:
            RewardError: the reward gives no verdicts.
            EngineError: the player failed.
        """
        sampling = self.plan.sampling(self.benchmark)

        async def work(queue: Iterator[tuple[Problem, int]]) -> None:
            for problem, sample in queue:
                seeded = replace(sampling, seed=seed_of(self.plan.seed, problem.id, sample))
                played = await self.player.generate(problem, seeded)
                score = await _score(self.reward, played, self.name, self.benchmark.judged)
                keep(_record(played, score, sample, seeded.seed, several=self.benchmark.max_turns > 1))

        queue = iter(asked)
        await _all([work(queue) for _ in range(min(concurrency, len(asked)))])

    def finish(self, records: Records, out: Path) -> dict[str, Any]:
        """Put the records in the order of the dataset, and write the result into `out/results.json`.

        Raises:
            LlmrlError: they cannot be written.
        """
        records.settle((problem.id, sample) for problem, sample in self.missing(()))
        judged = self.benchmark.judged
        result = summarise(self.problems, records.rows, self.samples, self.benchmark.by, self.plan.seed, judged)
        result = {"about": self.benchmark.about, **result}
        write_json(out / "results.json", {**read_json(out / "results.json"), file_name(self.name): result})
        return result


def problems_of(benchmark: Benchmark, name: str) -> Iterator[Problem]:
    """The problems of a benchmark.

    Raises:
        RecipeError: no such data.
        DataError: it cannot be read, or there are none.
    """
    problems = build("data", benchmark.data, f"benchmark {name}: data").problems()
    first = next(problems, None)
    if first is None:
        raise DataError(f"benchmark {name}: its data has no problems")
    return chain([first], problems)


async def evaluate(
    name: str,
    player: Generator,
    reward: Reward,
    out: Path,
    plan: Plan | None = None,
    *,
    concurrency: int = 256,
    on_sample: OnSample | None = None,
    benchmark: Benchmark | None = None,
) -> dict[str, Any]:
    """Run a benchmark, or the part that is missing in `out`, and return its result: see `summary.summarise`.

    Args:
        name: of the benchmark.
        player: generates the answers.
        reward: the benchmark's own, of groups: see `llmrl.scoring.manager.as_group_reward`.
        out: a folder; several benchmarks may share it.
        plan: samples, limits and seed.
        concurrency: completions in flight.
        on_sample: called after each.
        benchmark: in place of the one that has the name.
    Raises:
        LlmrlError: the output cannot be written, or was begun with other settings.
        RewardError: the reward gives no verdicts.
        EngineError: the player failed; what was finished is kept.
    """
    run = BenchmarkRun.of(name, player, reward, plan or Plan(), benchmark)
    with run.records(out) as records:
        await run.answer(run.missing(records.rows), run.keeper(records, on_sample), concurrency)
        return run.finish(records, out)


def seed_of(seed: int, problem: str, sample: int) -> int:
    """The seed of one completion, 0 to 2**31 - 1."""
    digest = hashlib.blake2b(f"{seed}/{problem}/{sample}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


async def _all(jobs: list[Any]) -> None:
    """Run all; the first failure ends the others before it is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _score(reward: Reward, played: Played, name: str, judged: bool | None) -> Score:
    """The score of an episode; `judged`: one with a value must have a verdict.

    Raises:
        RewardError: it has a value and no verdict.
    """
    if played.trajectory.status == "error":
        return Score(None, "error", reason=played.trajectory.reason)
    (score,) = await reward.score([played.trajectory])
    if judged and score.verdict is None and score.value is not None:
        raise RewardError(
            f"benchmark {name}: its reward gives no verdict (correct, wrong ...), which a benchmark counts"
        )
    return mark_truncated(played.trajectory, score)


def _record(played: Played, score: Score, sample: int, seed: int | None, several: bool) -> dict[str, Any]:
    """The line of an episode; where it may have several turns, with them."""
    problem, turns = played.trajectory.problem, played.trajectory.turns
    earned = replace(played.trajectory, score=score).earned
    record: dict[str, Any] = {
        "problem": problem.id,
        "sample": sample,
        "seed": seed,
        "prompt": [dict(message) for message in problem.messages],
        "completion": played.trajectory.text,
        "tokens": played.tokens,
        "finish": turns[-1].completion.finish if turns else None,
        "verdict": score.verdict,
        "value": earned,
        "parts": dict(score.parts),
        "reason": score.reason,
        "final": final_answer(played.trajectory.written) if score.answer is None else normal(score.answer),
        "answer": problem.answer,
    }
    if several:
        record["parts"] |= {} if earned is None else {"return": earned, "turns": float(len(turns))}
        record["turns"] = [{"text": turn.text, "reply": list(turn.reply), "reward": turn.reward} for turn in turns]
        record |= {"status": played.trajectory.status, "cut_off": played.trajectory.cut_off}
    return record


def _config(benchmark: Benchmark, sampling: Sampling, player: Generator, plan: Plan, samples: int) -> Mapping[str, Any]:
    return {
        "player": dict(player.settings),
        "data": written("data", benchmark.data),
        "reward": written("reward", benchmark.reward),
        "sampling": {key: value for key, value in asdict(sampling).items() if key != "stop" or value},
        "seed": plan.seed,
        "asked": {"samples": samples, "limit": plan.limit},
    }
