"""Stored answers as a source: steps of rows, broken and useless rows, exact resume, and what it never does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.errors import DataError, RecipeError
from llmrl.offline.source import OfflineSource
from llmrl.recipe import RolloutOptions, parse
from llmrl.rollout.context import SourceContext
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.sources.offline import Offline
from llmrl.tiny import make_tokenizer
from llmrl.types import Score
from tests.builders import SUMS, episode, turn

CHAT = Chat(make_tokenizer())
RECIPE = {"model": {"policy": "m"}, "algorithm": {"name": "bc"}, "source": {"name": "offline", "path": "rows.jsonl"}}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rows(count: int = 10) -> list[Any]:
    return [{"prompt": f"{i}+1=", "completion": str(i + 1), "reward": i / 10} for i in range(count)]


def start(path: Path, seed: int = 0, per_step: int = 4, longest: int = 8, **options: Any) -> OfflineSource:
    limits = RolloutOptions(prompts_per_step=per_step, max_completion_length=longest)
    settings = Offline(path=str(path), **options)
    return settings.start(SourceContext(chat=CHAT, options=limits, seed=seed, folder=path.parent / "run"))


def names(samples: Sequence[Sample]) -> list[str]:
    return [sample.group for sample in samples]


ORDERS = [{"shuffle": "window", "shuffle_window": 3}, {"shuffle": "index"}, {"shuffle": "none"}]


@pytest.mark.parametrize("options", ORDERS, ids=str)
def test_steps_take_rows_across_epochs(tmp_path: Path, options: dict[str, Any]) -> None:
    source = start(write(tmp_path / "rows.jsonl", rows()), **options)
    taken = [name for step in range(5) for name in names(source.next(step))]
    assert sorted(taken[:10]) == [f"0/{i}" for i in range(10)]
    assert sorted(taken[10:]) == [f"1/{i}" for i in range(10)]
    assert (taken[:10] == [f"0/{i}" for i in range(10)]) == (options["shuffle"] == "none")
    assert source.played == ()
    assert (source.metrics["offline/epoch"], source.metrics["offline/rows"]) == (1.0, 10.0)


@pytest.mark.parametrize("options", ORDERS, ids=str)
def test_a_resumed_source_goes_on_exactly(tmp_path: Path, options: dict[str, Any]) -> None:
    useless = [*rows(), {"prompt": "q", "completion": ""}, "broken"]
    path = write(tmp_path / "rows.jsonl", useless)
    through, before, after = (start(path, seed=3, max_bad_rows=1, **options) for _ in range(3))
    whole = [through.next(step) for step in range(8)]
    for step in range(4):
        before.next(step)
    after.restore(json.loads(json.dumps(before.state())))
    assert [after.next(step) for step in range(4, 8)] == whole[4:]
    assert after.state() == through.state()
    assert after.metrics == through.metrics


def test_a_checkpoint_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", rows())
    state = start(path).state()
    write(path, rows(9))
    with pytest.raises(
        DataError, match=r"rows.jsonl: the sha256 of the rows was \w+ in the checkpoint, and is now \w+"
    ):
        start(path).restore(state)


def test_broken_rows_stop_a_run_and_are_counted_where_they_may_be(tmp_path: Path) -> None:
    broken = [*rows(3), "no json", {"prompt": "q"}, {"prompt": "q", "completion": 3}]
    path = write(tmp_path / "rows.jsonl", broken)
    with pytest.raises(
        DataError, match=r"rows.jsonl:4: not JSON: .* found 'no json'.* Broken rows so far: 1, and source"
    ):
        start(path, shuffle="none").next(0)
    with pytest.raises(
        DataError, match=r"rows.jsonl:6: .*found 3; .*Broken rows so far: 3, and source.max_bad_rows is 2"
    ):
        start(path, shuffle="none", max_bad_rows=2).next(0)
    source = start(path, shuffle="none", max_bad_rows=3)
    for step in range(3):
        source.next(step)
    assert source.metrics["offline/bad_rows"] == 3.0, "each once, over four epochs"


def test_rows_of_no_use_are_counted_by_reason(tmp_path: Path) -> None:
    useless = [{"prompt": "q", "completion": ""}, {"prompt": "q", "completion": "long" * 5}] * 2
    source = start(write(tmp_path / "rows.jsonl", [*rows(3), *useless]), shuffle="none")
    source.next(0)
    source.next(1)
    assert source.left_out == {"empty response": 2, "answer longer than rollout.max_completion_length": 2}
    nothing = start(write(tmp_path / "none.jsonl", [rows(1)[0], *useless][1:]), shuffle="none")
    with pytest.raises(DataError, match=r"none.jsonl: no row of use; left out: empty response: 2, answer longer"):
        nothing.next(0)


def test_a_run_s_folder_is_data(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "run", True, 1.0)
    for step, problem in enumerate(SUMS[:3]):
        group = [
            episode(
                turn("5", [8, 2], prompt=[7], logprobs=[-0.5, -0.25], version=step),
                problem=problem,
                group=f"{step}/{problem.id}",
                episode=i,
                score=Score(float(i), "correct" if i else "wrong"),
            )
            for i in range(2)
        ]
        logs.rollouts(step, [group], [])
    source = start(tmp_path / "run", per_step=3, shuffle="window")
    made = source.next(0)
    assert source.data["format"] == "rollouts"
    assert sorted((one.group, one.episode, one.reward) for one in made) == [
        (f"0/{2 * step}", i, float(i)) for step in range(3) for i in range(2)
    ]


def test_a_parquet_file_is_data(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.Table.from_pylist(rows()), tmp_path / "rows.parquet")
    as_json, as_parquet = start(write(tmp_path / "rows.jsonl", rows())), start(tmp_path / "rows.parquet")
    assert [as_parquet.next(step) for step in range(4)] == [as_json.next(step) for step in range(4)]


def test_options_that_contradict_each_other() -> None:
    for path, name in ((None, None), ("a", "b")):
        with pytest.raises(ValueError, match="either path"):
            Offline(path=path, dataset_name=name)
    with pytest.raises(ValueError, match="shuffle index reads a"):
        Offline(dataset_name="b", shuffle="index")


def test_a_recipe_of_stored_answers_needs_neither_problems_nor_a_reward() -> None:
    recipe = parse(RECIPE, "mine.yaml")
    assert (recipe.data, recipe.reward, recipe.evaluates) == (None, None, False)
    assert parse(recipe.as_dict()) == recipe
    with pytest.raises(RecipeError, match=r"^mine.yaml: audit.reward: source offline generates no episodes to score"):
        parse({**RECIPE, "audit": {"reward": {"name": "numeric"}}}, "mine.yaml")
