"""The runner: what it writes, how it counts, and that it goes on where it stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llmrl.errors import DataError, EngineError, LlmrlError, RewardError
from llmrl.evaluation.evaluate import Plan, evaluate, seed_of
from llmrl.evaluation.generators import Played, refused
from llmrl.evaluation.records import Records
from llmrl.evaluation.summary import _parts, flat, table
from llmrl.protocols import Benchmark
from llmrl.types import Completion, Finish, Problem, Sampling, Score, Trajectory, Turn, Verdict

MINE = Benchmark(
    data={"name": "math", "split": "tiny", "instruction": ""},
    reward={"name": "unused: the tests bring their own"},
    by=("subject",),
    about="eight problems",
)
NAME = f"{__name__}:MINE"
Script = Mapping[str, str]  # last part of the problem's id to what is answered


@dataclass
class Answers:
    """A player that says what it is told, and remembers what it was asked."""

    script: Script = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=lambda: {"model": "m"})
    asked: list[tuple[str, int | None]] = field(default_factory=list)
    dies_after: int = 10**6

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        await asyncio.sleep(0)
        if len(self.asked) == self.dies_after:
            raise EngineError("the engine died")
        self.asked.append((problem.id, sampling.seed))
        text = self.script.get(problem.id.rpartition("/")[2], rf"\boxed{{{problem.answer}}}")
        if text == "too long":
            return refused(problem, "too long")
        finish: Finish = "length" if text.endswith("...") else "stop"
        completion = Completion(token_ids=[], logprobs=[], finish=finish, version=0)
        turn = Turn(prompt_ids=[], completion=completion, text=text)
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), len(text))


class Exact:
    """Right if the reference stands in a box."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [self._one(one) for one in group]

    def _one(self, one: Trajectory) -> Score:
        if one.text == "hang":
            return Score(None, "timeout", reason="took too long")
        right = rf"\boxed{{{one.problem.answer}}}" in one.text
        verdict: Verdict = "correct" if right else "wrong"
        return Score(float(right), verdict)


def play(out: Path, player: Answers, name: str = NAME, **plan: Any) -> dict[str, Any]:
    return asyncio.run(evaluate(name, player, Exact(), out, Plan(**plan), concurrency=3))


def lines(out: Path) -> list[dict[str, Any]]:
    (path,) = out.glob("*.jsonl")
    return sorted(
        (json.loads(line) for line in path.read_text().splitlines()), key=lambda row: (row["problem"], row["sample"])
    )


def test_everything_is_written_and_counted(tmp_path: Path) -> None:
    player = Answers({"1": "no", "2": "cut...", "3": "hang", "4": "too long"})
    result = play(tmp_path, player)
    assert result["problems"] == 8
    assert (result["unjudged"], result["unjudged_problems"]) == (2, 2)
    assert result["metrics"]["avg@1"]["value"] == pytest.approx(4 / 6)
    assert result["metrics"]["avg@1"]["low"] < 4 / 6 < result["metrics"]["avg@1"]["high"]
    assert result["verdicts"] == {"correct": 4, "error": 1, "timeout": 1, "truncated": 1, "wrong": 1}
    assert result["truncated"] == 1 / 8
    assert result["by"]["subject"]["Algebra"] == {
        "problems": 2,
        "avg@1": {"value": 0.5, "low": 0.0, "high": 1.0},
    }
    rows = lines(tmp_path)
    assert [row["problem"] for row in rows] == [f"math/tiny/{i}" for i in range(8)]
    assert rows[0]["prompt"] == [{"role": "user", "content": "Solve $5x - 7 = 2x + 8$ for $x$."}]
    assert (rows[0]["completion"], rows[0]["final"], rows[0]["answer"]) == (r"\boxed{5}", "5", "5")
    assert (rows[4]["finish"], rows[4]["value"], rows[4]["reason"]) == (None, None, "too long")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert list(stored.values()) == [result]
    metrics = flat("mine", result)
    assert metrics["eval/mine/avg@1"] == pytest.approx(4 / 6)
    assert table({"mine": result}).row_count == 1 + len(result["by"]["subject"]) + 3


def test_several_samples_give_pass_and_majority(tmp_path: Path) -> None:
    class Varied(Answers):
        async def generate(self, problem: Problem, sampling: Sampling) -> Played:
            self.script = {"0": "no" if sampling.seed in wrong else r"\boxed{5}"}
            return await super().generate(problem, sampling)

    wrong = {seed_of(0, "math/tiny/0", i) for i in (0, 1, 3)}
    result = play(tmp_path, Varied(), samples=4, limit=1)
    values = {name: each["value"] for name, each in result["metrics"].items()}
    # one right of four; of the six pairs three hold it; only the right one states an answer, so it wins the vote
    assert values == {"avg@4": 0.25, "pass@2": 0.5, "pass@4": 1.0, "maj@4": 1.0}


def test_a_vote_counts_what_the_verifier_read(tmp_path: Path) -> None:
    """`(B) Paris` and `B` are one vote where the verifier read B in both; where it read nothing, the text decides."""

    class Reads(Exact):
        def _one(self, one: Trajectory) -> Score:
            read = one.text[:1]
            if not read.isupper():
                return Score(0.0, "unparsable")
            return Score(float(read == "B"), "correct" if read == "B" else "wrong", answer=read)

    class Varied(Answers):
        async def generate(self, problem: Problem, sampling: Sampling) -> Played:
            assert sampling.seed is not None
            self.script = {"0": answers[sampling.seed]}
            return await super().generate(problem, sampling)

    said = ["A", "A) Rome", "B", "B) Paris", "Both: 3", "who knows: 7"]
    answers = {seed_of(0, "math/tiny/0", i): text for i, text in enumerate(said)}
    result = asyncio.run(evaluate(NAME, Varied(), Reads(), tmp_path, Plan(samples=6, limit=1), concurrency=1))
    assert [row["final"] for row in lines(tmp_path)] == ["a", "a", "b", "b", "b", "7"]
    assert result["metrics"]["maj@6"]["value"] == 1.0, "by texts, A and A) Rome, B and B) Paris would be four votes"


def test_several_samples_of_a_greedy_benchmark_are_sampled() -> None:
    assert Plan().sampling(MINE).temperature == 0.0
    assert Plan(samples=4).sampling(MINE).temperature == 0.6
    assert Plan(samples=4, temperature=1.0, max_tokens=7).sampling(MINE) == Sampling(
        temperature=1.0, top_p=1.0, max_tokens=7
    )
    with pytest.raises(ValueError, match="samples 0: expected at least 1"):
        Plan(samples=0)


def test_a_stopped_evaluation_goes_on_and_ends_alike(tmp_path: Path) -> None:
    whole = play(tmp_path / "whole", Answers({"1": "no"}), samples=2)
    with pytest.raises(EngineError, match="died"):
        play(tmp_path / "parts", Answers({"1": "no"}, dies_after=7), samples=2)
    done = lines(tmp_path / "parts")
    assert 4 <= len(done) <= 7
    (path,) = (tmp_path / "parts").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"problem": "math/ti')
    again = Answers({"1": "no"})
    assert play(tmp_path / "parts", again, samples=2) == whole
    assert len(again.asked) == 16 - len(done)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_more_samples_and_problems_may_be_asked_later(tmp_path: Path) -> None:
    play(tmp_path, Answers(), limit=3, temperature=1.0)
    more = Answers()
    play(tmp_path, more, limit=4, samples=2, temperature=1.0)
    assert len(more.asked) == 5
    fewer = Answers()
    assert play(tmp_path, fewer, limit=2, temperature=1.0)["problems"] == 2
    assert fewer.asked == []


def test_other_settings_are_refused(tmp_path: Path) -> None:
    play(tmp_path, Answers())
    with pytest.raises(LlmrlError, match=r"begun with other settings: seed was 0, now 1\. Choose another output"):
        play(tmp_path, Answers(), seed=1)
    with pytest.raises(LlmrlError, match=r"player was \{'model': 'm'\}, now \{'model': 'n'\}"):
        play(tmp_path, Answers(settings={"model": "n"}))
    with pytest.raises(LlmrlError, match="sampling was"):
        play(tmp_path, Answers(), max_tokens=5)


def test_seeds_belong_to_the_sample_alone(tmp_path: Path) -> None:
    player = Answers()
    play(tmp_path, player, samples=2, seed=5)
    assert sorted(player.asked) == sorted(
        (f"math/tiny/{i}", seed_of(5, f"math/tiny/{i}", k)) for i in range(8) for k in range(2)
    )
    seeds = {seed_of(seed, "math/tiny/0", 0) for seed in range(5)} | {seed for _, seed in player.asked}
    assert len(seeds) == 16 + 5


def test_a_reward_without_verdict_is_no_benchmark(tmp_path: Path) -> None:
    class Plain:
        async def score(self, group: Sequence[Trajectory]) -> list[Score]:
            return [Score(1.0) for _ in group]

    with pytest.raises(RewardError, match="gives no verdict"):
        asyncio.run(evaluate(NAME, Answers(), Plain(), tmp_path))


def test_records_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text('{"problem": "p", "sample": 0}\nnonsense\n{"problem": "p", "sample": 1}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:2: no record of an evaluation"), Records(path):
        pass
    path.write_text("")
    with Records(path), pytest.raises(LlmrlError, match="another evaluation is writing it"), Records(path):
        pass
    with pytest.raises(LlmrlError, match=r"cannot be written: .*choose another output"), Records(path / "below.jsonl"):
        pass
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"config\.json: expected an object, found list"):
        play(tmp_path, Answers())


def test_a_full_disk_is_named() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    records = Records(full)
    records._file = full.open("ab", buffering=0)  # type: ignore[assignment]
    with records._file, pytest.raises(LlmrlError, match=r"/dev/full: cannot be written: No space left"):
        records.append({"problem": "p", "sample": 0})


def test_parts_are_averaged_over_the_completions_that_have_them() -> None:
    records: list[dict[str, Any]] = [
        {"parts": {"a": 1.0, "b": None}},
        {"parts": {"a": 0.0, "b": 3.0}},
        {"parts": {"c": None}},
        {},
    ]
    assert _parts(records) == {"a": 0.5, "b": 3.0}
    result = {"metrics": {}, "parts": {"b": 3.0}, "unjudged": 0, "truncated": 0.0, "mean_tokens": None}
    assert flat("mine", result)["eval/mine/parts/b"] == 3.0


@dataclass
class Late(Answers):
    """A player whose answers come in an order of chance: of odd samples right, of even ones wrong."""

    random: Random = field(default_factory=lambda: Random(1))

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        right = sampling.seed in {seed_of(7, problem.id, sample) for sample in (1, 3)}
        for _ in range(self.random.randrange(20)):
            await asyncio.sleep(0)
        text = rf"{problem.id}/{sampling.seed}: \boxed{{{problem.answer if right else 'no'}}}"
        turn = Turn(
            prompt_ids=[], completion=Completion(token_ids=[], logprobs=[], finish="stop", version=0), text=text
        )
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), len(text))


def test_answers_that_come_in_any_order_belong_to_their_problems(tmp_path: Path) -> None:
    plan = Plan(samples=4, seed=7)
    result = asyncio.run(evaluate(NAME, Late(), Exact(), tmp_path, plan))
    rows = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    assert len(problems) == 8
    assert [(row["problem"], row["sample"]) for row in rows] == [(one, n) for one in problems for n in range(4)]
    for row in rows:
        assert row["completion"].startswith(f"{row['problem']}/{seed_of(7, row['problem'], row['sample'])}: ")
        assert row["verdict"] == ("correct" if row["sample"] % 2 else "wrong")
    assert result["problems"] == 8
    assert result["verdicts"] == {"correct": 16, "wrong": 16}
