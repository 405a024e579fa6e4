"""Answers to issues by Agentless-Mini: a generator that asks another one several times, tests, and gives a patch."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.evaluation.generators import Generator, Played, refused
from llmrl.run_folder.jsonl import Journal
from llmrl.swe.agentless import localise, repair, reproduce, rerank
from llmrl.swe.clones import files_of
from llmrl.swe.guard import reference_paths
from llmrl.swe.instance import Instance
from llmrl.swe.rows import is_test
from llmrl.swe.testing import TestBed
from llmrl.swe.tree import Changes, Files
from llmrl.types import Completion, Problem, Sampling, Trajectory, Turn


@dataclass(frozen=True, kw_only=True)
class AgentlessOptions(TestBed):
    """Options of Agentless-Mini; tests run on this machine, by the options of the reward `swe_tests`."""

    localisations: int = 1  # answers that name files
    samples: int = 1  # repairs
    temperature: float = 0.8  # of all answers behind the first of each kind
    reproductions: int = 0  # tests that are written from the issue; they decide among repairs
    regression: bool = False  # tests that pass before decide among repairs
    most_regression_files: int = 20  # files of tests
    context_characters: int = 200_000  # of the files that a repair sees
    workers: int = 2  # runs of tests at once

    def __post_init__(self) -> None:
        super().__post_init__()
        least = min(self.localisations, self.samples, self.workers, self.context_characters)
        if least < 1 or self.reproductions < 0:
            raise ValueError(
                "expected localisations, samples, workers, context_characters at least 1, reproductions at least 0"
            )


class StageLog(Journal):
    """Finished stages of an evaluation by key: what a killed one has done is not done again."""

    writer = "evaluation"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.values: dict[str, Any] = {}

    async def once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """The value of a stage: as it was written down, or else worked out now, and written down."""
        if key not in self.values:
            value = await work()
            self.write({"key": key, "value": value})
            self.values[key] = value
        return self.values[key]

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        for number, line in lines:
            try:
                row = json_text.parse(line, "the line")
                self.values[row["key"]] = row["value"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.path}:{number}: no finished stage ({error}); remove the line to do it again"
                ) from None


@dataclass
class AgentlessGenerator:
    """Solves an issue in stages. The text of its answer is a patch; `Played.tokens` counts all.

    Each stage is kept in `log` under all that decides it, the model and the seed included.
    """

    inner: Generator
    options: AgentlessOptions
    log: StageLog
    method: ClassVar[str] = "agentless"
    _gate: asyncio.Semaphore | None = field(default=None, init=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the inner generator, and the options that decide answers."""
        kept = {name: value for name, value in vars(self.options).items() if name not in ("logs", "workers")}
        return {**self.inner.settings, "agentless": json.loads(json.dumps(kept, default=str))}

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Find files, ask for repairs, run tests on them, choose.

        Raises:
            DataError: there is no clone of the repository, or it has no such commit.
            EngineError: the inner generator failed.
        """
        solving = Solving(self, problem, Instance.of(problem), sampling)
        patch, tokens = await solving.solved()
        if solving.refusals and not solving.heard:
            return refused(problem, f"no question was answered; the first: {solving.refusals[0]}")
        completion = Completion(token_ids=[], logprobs=[], finish="stop", version=0)
        turn = Turn(prompt_ids=[], completion=completion, text=patch)
        return Played(Trajectory(problem=problem, turns=[turn], status="done", metrics=solving.numbers), tokens)

    async def on_worker(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a function that waits for a process in a thread; few at once."""
        self._gate = self._gate or asyncio.Semaphore(self.options.workers)
        async with self._gate:
            return await asyncio.to_thread(work, *args)


@dataclass
class Solving:
    """The stages of one issue."""

    by: AgentlessGenerator
    problem: Problem
    instance: Instance
    sampling: Sampling
    numbers: dict[str, float] = field(default_factory=dict)
    tokens: int | None = 0  # None: a server did not say
    heard: int = 0  # answers
    refusals: list[str] = field(default_factory=list)  # reasons why there was none

    async def solved(self) -> tuple[str, int | None]:
        """The patch that is chosen, "" for none, and the tokens that were generated."""
        options = self.by.options
        files = await asyncio.to_thread(files_of, self.instance, options.repos)
        localised = await self._localised(files)
        found = list(dict.fromkeys(path for paths in localised for path in paths))
        gold = reference_paths(self.instance.patch)
        self.numbers = {"found_files": float(len(found)), "localised": float(bool(gold) and gold <= set(found))}
        sets = repair.file_sets(localised, options.samples)
        answers = await asyncio.gather(*(self._repair(files, paths, number) for number, paths in enumerate(sets)))
        repairs = [dict(await asyncio.to_thread(repair.patched, files, text)) for text in answers]
        keys = [rerank.normal(files, changes) for changes in repairs]
        self.numbers["repairs"] = float(sum(map(bool, keys)))
        broken = await self._broken(files, repairs, keys) if options.regression else None
        passed = await self._reproduced(files, found, repairs, keys) if options.reproductions else None
        choice = rerank.chosen(keys, broken, passed)
        return ("" if choice is None else repair.patch_of(files, repairs[choice])), self.tokens

    async def _localised(self, files: Files) -> list[list[str]]:
        paths = localise.candidates(list(files), self.instance.repo)
        texts = await asyncio.gather(
            *(
                self._asked("localise", number, localise.messages(self.instance.issue, paths, number, self._seed))
                for number in range(self.by.options.localisations)
            )
        )
        return [localise.named_files(text, paths) for text in texts]

    async def _repair(self, files: Files, paths: Sequence[str], number: int) -> str:
        most = self.by.options.context_characters
        return await self._asked(
            "repair", number, repair.messages(self.instance.issue, files, paths, most, number, self._seed)
        )

    @property
    def _seed(self) -> int:
        return self.sampling.seed or 0

    async def _asked(self, stage: str, number: int, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of an answer; the first of a stage is sampled as the benchmark says, the others hotter."""
        sampling = self.sampling if not number else replace(self.sampling, temperature=self.by.options.temperature)
        seed = int.from_bytes(hashlib.blake2b(f"{self._seed}/{stage}/{number}".encode(), digest_size=4).digest()) >> 1
        sampling = replace(sampling, seed=seed)
        asked = Problem(id=f"{self.problem.id}/{stage}/{number}", messages=list(messages))

        async def ask() -> dict[str, Any]:
            played = await self.by.inner.generate(asked, sampling)
            return {"text": played.trajectory.text, "tokens": played.tokens, "reason": played.trajectory.reason}

        inputs = _digest([messages, asdict(sampling), dict(self.by.inner.settings)])
        made = await self.by.log.once(f"{asked.id}/{inputs}", ask)
        if made["reason"] and not made["text"]:
            self.refusals.append(str(made["reason"]))
        else:
            self.heard += 1
        self.tokens = None if None in (self.tokens, made["tokens"]) else self.tokens + made["tokens"]
        return str(made["text"])

    async def _run(self, kind: str, changes: Changes, tests: Mapping[str, str | None]) -> dict[str, str]:
        """Statuses of tests on a change; none where the run is void."""

        async def work() -> dict[str, str]:
            run = await self.by.on_worker(self.by.options.run_files, self.instance, changes, tests)
            return {} if run.fault else dict(run.statuses)

        options = self.by.options
        bed = {name: getattr(options, name) for name in TestBed.__dataclass_fields__ if name != "logs"}
        inputs = _digest([sorted(changes.items()), sorted(tests.items()), asdict(self.instance), bed])
        return dict(await self.by.log.once(f"{self.problem.id}/{kind}/{inputs}", work))

    async def _broken(self, files: Files, repairs: Sequence[Changes], keys: Sequence[str]) -> dict[int, set[str]]:
        """Find the tests that passed before and no longer do, for each repair."""
        names = [path for path in files if is_test(path) and path.endswith(".py") and "conftest" not in path]
        tests = {path: files[path] for path in names[: self.by.options.most_regression_files]}
        if not tests:
            return {}
        good = ("PASSED", "XFAIL")
        before = {test for test, status in (await self._run("base", {}, tests)).items() if status in good}
        runs = await self._runs("regression", repairs, keys, tests)
        return {number: {test for test in before if run.get(test) not in good} for number, run in runs.items()}

    async def _reproduced(
        self, files: Files, found: Sequence[str], repairs: Sequence[Changes], keys: Sequence[str]
    ) -> dict[int, set[str]]:
        """Find the reproduction tests that each repair passes, of those that fail before."""
        most = self.by.options.context_characters
        shown = "\n\n".join(f"### {path}\n{files[path]}" for path in repair.fitting(files, found, most))
        request = reproduce.messages(self.instance.issue, self.instance.runner, shown)
        texts = await asyncio.gather(
            *(self._asked("reproduce", number, request) for number in range(self.by.options.reproductions))
        )
        passed: dict[int, set[str]] = {number: set() for number, key in enumerate(keys) if key}
        for text in dict.fromkeys(filter(None, map(reproduce.written_test, texts))):
            tests = {reproduce.FILE: text}
            before = await self._run("base", {}, tests)
            if not before or set(before.values()) & {"PASSED", "XFAIL"}:
                continue
            runs = await self._runs("reproduction", repairs, keys, tests)
            for number, run in runs.items():
                if run and all(status == "PASSED" for status in run.values()):
                    passed[number].add(_digest(text))
        return passed

    async def _runs(
        self, kind: str, repairs: Sequence[Changes], keys: Sequence[str], tests: Mapping[str, str | None]
    ) -> dict[int, dict[str, str]]:
        """Statuses of tests on each repair; repairs that are alike are run once."""
        first = {key: number for number, key in reversed(list(enumerate(keys))) if key}
        runs = await asyncio.gather(*(self._run(kind, repairs[number], tests) for number in first.values()))
        by_key = dict(zip(first, runs, strict=True))
        return {number: by_key[key] for number, key in enumerate(keys) if key}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
