"""Answers behind their return, and rehearsal: what is in a sample, what is refused, and exact resume."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.errors import DataError, RecipeError
from llmrl.offline.rehearsal import RehearsalSource
from llmrl.offline.source import OfflineSource
from llmrl.plugins import build, spec_of
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import SourceContext
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.tiny import make_tokenizer
from llmrl.types import Score
from tests.builders import SUMS, episode, turn

ASKED_FOR = "<|ret_3|>"
CHAT = Chat(make_tokenizer(), system_prompt=ASKED_FOR)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(count: int = 40, **more: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"{i}+1=", "completion": str(i + 1), "reward": i / count, **more} for i in range(count)]


def start(spec: dict[str, Any], per_step: int = 8, seed: int = 0, folder: Path = Path()) -> Any:
    options = RolloutOptions(prompts_per_step=per_step, max_completion_length=16)
    return build("source", spec).start(SourceContext(chat=CHAT, options=options, seed=seed, folder=folder))


def returns(path: str, **options: Any) -> OfflineSource:
    source: OfflineSource = start({"name": "returns", "path": path, "min_rows": 1, "shuffle": "none", **options})
    return source


def prompt(sample: Sample) -> str:
    text: str = CHAT.tokenizer.decode(sample.token_ids[~sample.action_mask])
    return text


def test_an_answer_stands_behind_the_bucket_of_its_return(tmp_path: Path) -> None:
    """Returns 0, 1/40 ... 39/40: a quarter in each of four buckets; the system prompt of evaluations is not there."""
    source = returns(write(tmp_path / "rows.jsonl", rows()), drop=0.0)
    samples = [sample for step in range(5) for sample in source.next(step)]
    assert [sample.numbers["bucket"] for sample in samples] == [i // 10 for i in range(40)]
    for i, sample in enumerate(samples):
        assert prompt(sample) == f"<|system|><|ret_{i // 10}|><|end|><|user|>{i}+1=<|end|><|assistant|>"
        assert CHAT.text(sample.token_ids[sample.action_mask].tolist()) == str(i + 1)
    assert source.data["return_buckets"] == {str(bucket): 10 for bucket in range(4)}
    assert source.data["return_edges"] == pytest.approx([9.75 / 40, 19.5 / 40, 29.25 / 40])


def test_what_is_asked_for_at_inference_is_what_was_learned(tmp_path: Path) -> None:
    best = returns(write(tmp_path / "rows.jsonl", rows()), drop=0.0).epoch()
    samples = {number: sample for number, (sample,) in best}
    asked = CHAT.prompt_ids([{"role": "user", "content": "39+1="}])
    assert asked == samples[39].token_ids[~samples[39].action_mask].tolist()


def test_a_share_has_no_condition_another_one_in_each_epoch(tmp_path: Path) -> None:
    source = returns(write(tmp_path / "rows.jsonl", rows(400)), drop=0.25)
    dropped: list[set[str]] = []
    for _ in range(2):
        samples = [sample for step in range(50) for sample in source.next(step)]
        without = {sample.group.partition("/")[2] for sample in samples if sample.numbers["bucket"] < 0}
        assert all("<|system|>" not in prompt(s) for s in samples if s.numbers["bucket"] < 0)
        dropped.append(without)
    assert all(70 < len(without) < 130 for without in dropped)
    assert dropped[0] != dropped[1]


def test_episodes_of_a_run_have_their_rewards_as_returns(tmp_path: Path) -> None:
    groups = [
        [
            episode(
                turn(f"{i}", [1, 2], reward=i / 2), problem=SUMS[i], score=Score((3 - i) / 4), group=f"{i}/p", episode=0
            ),
            episode(turn("..", [1], finish="length"), problem=SUMS[i], score=Score(0.0), group=f"{i}/p", episode=1),
        ]
        for i in range(4)
    ]
    Logs(tmp_path, writes=True, share=1.0).rollouts(0, groups, [])
    samples = returns(str(tmp_path), drop=0.0, quantiles=[0.5]).next(0)
    first = {CHAT.text(s.token_ids[s.action_mask].tolist()): s.numbers["bucket"] for s in samples}
    assert first == {"0": 0.0, "1": 0.0, "2": 1.0, "3": 1.0}, "the one that was cut off is left out"


def test_a_bucket_with_few_answers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", rows(30))
    with pytest.raises(DataError, match=r"rows.jsonl: bucket 1 of the returns has 7 answers, source.min_rows is 8"):
        returns(path, min_rows=8)


def test_returns_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    """Rows without a reward have 1 each: a policy would learn to pass over the bucket."""
    path = write(tmp_path / "rows.jsonl", [{"prompt": f"{i}+1=", "completion": str(i + 1)} for i in range(40)])
    with pytest.raises(DataError, match=r"rows.jsonl: every answer has the return 1, so it tells nothing"):
        returns(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantiles": [0.5, 0.25]}, "between 0 and 1 that rise"),
        ({"control": "best"}, "expected a text with"),
        ({"drop": 1.0}, "below 1"),
        ({"columns": "kept"}, "without their return"),
    ],
    ids=str,
)
def test_options_of_returns_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("source", {"name": "returns", "path": "rows.jsonl", **options})


def rehearsal(tmp_path: Path, **options: Any) -> RehearsalSource:
    paths = [write(tmp_path / "new.jsonl", rows(13)), write(tmp_path / "old.jsonl", rows(7, nll_per_token=0.5))]
    of, replay = ({"name": "offline", "path": path} for path in paths)
    source: RehearsalSource = start({"name": "rehearsal", "of": of, "replay": replay, **options}, folder=tmp_path)
    return source


def test_a_step_learns_from_a_share_of_the_buffer(tmp_path: Path) -> None:
    source = rehearsal(tmp_path, share=0.25)
    samples = [sample for step in range(13) for sample in source.next(step)]
    groups = Counter(sample.group for sample in samples)
    old = {name: count for name, count in groups.items() if name.startswith("replay/")}
    assert sum(old.values()) == 2 * 13
    assert sum(groups.values()) == 8 * 13
    assert max(groups.values()) == 1, "groups of both have names of their own"
    assert source.metrics["replay/samples"] == 0.25
    assert all(("nll_per_token" in s.numbers) == s.group.startswith("replay/") for s in samples)
    assert all((s.origin == "replay") == s.group.startswith("replay/") for s in samples)


def test_a_rehearsal_resumes_exactly(tmp_path: Path) -> None:
    through, before, after = (rehearsal(tmp_path) for _ in range(3))
    whole = [through.next(step) for step in range(9)]
    for step in range(4):
        before.next(step)
    before.mark()
    before.next(4)
    before.rewind()
    after.restore(json.loads(json.dumps(before.state())))
    assert [after.next(step) for step in range(4, 9)] == whole[4:]
    write(tmp_path / "old.jsonl", rows(6))
    changed = start({"name": "rehearsal", **{n: {"name": "offline", "path": str(tmp_path / f)} for n, f in FILES}})
    with pytest.raises(DataError, match=r"old.jsonl: the sha256 of the rows was"):
        changed.restore(before.state())


FILES = (("of", "new.jsonl"), ("replay", "old.jsonl"))


def test_a_rehearsal_is_written_back_and_needs_stored_answers(tmp_path: Path) -> None:
    spec = {
        "name": "rehearsal",
        "of": {"name": "offline", "path": "a.jsonl"},
        "replay": {"name": "returns", "path": "b"},
    }
    made = build("source", spec)
    assert build("source", spec_of("source", made)) == made
    with pytest.raises(RecipeError, match=r"of: source online as it is set here; expected offline"):
        build("source", {**spec, "of": {"name": "online"}})
    with pytest.raises(RecipeError, match="above 0 and below 1"):
        build("source", {**spec, "share": 1.0})
