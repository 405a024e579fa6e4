"""Prompts that are too long, before the first step: how many, which, and what may be done."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from llmrl.chat import Chat
from llmrl.errors import DataError
from llmrl.protocols import Env
from llmrl.recipe import Recipe, read
from llmrl.tiny import make_tokenizer
from llmrl.train.prompts import check_benchmarks, problems_to_play
from llmrl.types import Problem

RECIPE = """
model: {policy: ./model}
data: {name: jsonl, path: PATH}
reward: {name: numeric}
algorithm: {name: grpo}
engine: {name: hf}
rollout: {num_generations: 2, prompts_per_step: 2, max_prompt_length: 12}
"""
LONG = " ".join(str(number) for number in range(40))


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(make_tokenizer())


def recipe(tmp_path: Path, prompts: list[str], *overrides: str) -> Recipe:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": f"p{i}", "prompt": text}) + "\n" for i, text in enumerate(prompts)))
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace("PATH", str(rows)))
    return read(path, overrides)


def test_all_are_counted_and_the_longest_is_named(tmp_path: Path, chat: Chat) -> None:
    prompts = ["1+1=", LONG, f"{LONG} and {LONG}", "2+2="]
    tokens = len(chat.prompt_ids([{"role": "user", "content": prompts[2]}]))
    with pytest.raises(DataError) as refused:
        problems_to_play(recipe(tmp_path, prompts), chat, main=True)
    assert str(refused.value) == (
        f"data: 2 of 4 prompts are longer than rollout.max_prompt_length 12, the longest of problem p2 with {tokens} "
        f"tokens (then p1); set it to {tokens}, or rollout.drop_long_prompts=true to leave them out"
    )
    fitting = recipe(tmp_path, prompts, f"rollout.max_prompt_length={tokens}")
    assert len(problems_to_play(fitting, chat, main=True)) == 4


def test_they_may_be_left_out_with_a_warning(tmp_path: Path, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    chosen = recipe(tmp_path, ["1+1=", LONG, "2+2="], "rollout.drop_long_prompts=true")
    with caplog.at_level(logging.WARNING):
        kept = problems_to_play(chosen, chat, main=True)
    assert [problem.id for problem in kept] == ["p0", "p2"]
    assert "1 of 3 prompts are longer" in caplog.text
    with pytest.raises(DataError, match=r"1 of 1 prompts are longer .*; set it to \d+$"):
        problems_to_play(recipe(tmp_path, [LONG], "rollout.drop_long_prompts=true"), chat, main=True)


def test_the_limit_itself_is_no_fault(tmp_path: Path, chat: Chat) -> None:
    tokens = len(chat.prompt_ids([{"role": "user", "content": LONG}]))
    assert problems_to_play(recipe(tmp_path, [LONG], f"rollout.max_prompt_length={tokens}"), chat, main=True)
    with pytest.raises(DataError, match=f"with {tokens} tokens"):
        problems_to_play(recipe(tmp_path, [LONG], f"rollout.max_prompt_length={tokens - 1}"), chat, main=True)


def starts(tmp_path: Path, rows: list[dict[str, object]], *overrides: str) -> Recipe:
    chosen = recipe(tmp_path, [], *overrides)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return chosen


def test_what_a_game_shows_first_counts_and_not_its_row(tmp_path: Path, chat: Chat) -> None:
    game = ("env=maze", "rollout.max_turns=3")
    rows: list[dict[str, object]] = [{"id": "m", "prompt": "x", "start": "1,1"}]
    with pytest.raises(DataError, match=r"1 of 1 prompts are longer than rollout.max_prompt_length 12, .* problem m"):
        problems_to_play(starts(tmp_path, rows, *game), chat, main=True)
    rows = [{"id": "m", "prompt": LONG, "start": "1,1"}]
    short = ("env={name: maze, instructions: false}", "rollout.max_turns=3", "rollout.max_prompt_length=200")
    assert len(problems_to_play(starts(tmp_path, rows, *short), chat, main=True)) == 1
    with pytest.raises(DataError, match=r"problem m: info.start is '99,99'"):
        problems_to_play(starts(tmp_path, [rows[0] | {"start": "99,99"}], *game), chat, main=True)


@pytest.mark.parametrize(
    "env",
    [
        "{name: tools, tools: [calculator]}",
        "{name: dialogue, simulators: [{name: car_buyer}]}",
        "{name: perturbation, reward: {name: numeric}}",
    ],
)
def test_other_environments_whose_start_is_known(env: str, tmp_path: Path, chat: Chat) -> None:
    chosen = recipe(tmp_path, [LONG], f"env={env}", "rollout.max_turns=3")
    with pytest.raises(DataError, match="1 of 1 prompts are longer"):
        problems_to_play(chosen, chat, main=True)


def test_an_environment_that_is_asked_shows_what_it_likes(tmp_path: Path, chat: Chat) -> None:
    chosen = replace(recipe(tmp_path, [LONG]), env=Unknown())
    assert len(problems_to_play(chosen, chat, main=True)) == 1


class Unknown:
    """An environment that tells nothing beforehand."""

    def make(self, problem: Problem) -> Env:
        raise AssertionError("not to be opened")


def test_benchmarks_are_looked_at_too(tmp_path: Path, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    asked = ["eval.benchmarks=[gsm8k_like:BENCHMARK]", "eval.every=1"]
    (tmp_path / "gsm8k_like.py").write_text(
        "from llmrl.protocols import Benchmark\n"
        f"DATA = {{'name': 'jsonl', 'path': {str(tmp_path / 'test.jsonl')!r}}}\n"
        "BENCHMARK = Benchmark(data=DATA, reward={'name': 'numeric'})\n"
    )
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("1+1=", LONG)))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(DataError, match=r"eval.benchmarks gsm8k_like:BENCHMARK: 1 of 2 prompts .* test/1 with"):
            check_benchmarks(recipe(tmp_path, ["1+1="], *asked), chat, main=True)
        check_benchmarks(recipe(tmp_path, ["1+1="], *asked, "eval.limit=1"), chat, main=True)
        with caplog.at_level(logging.WARNING):
            check_benchmarks(recipe(tmp_path, ["1+1="], *asked, "rollout.drop_long_prompts=true"), chat, main=True)
        assert "they are not asked, and are unjudged" in caplog.text
        check_benchmarks(recipe(tmp_path, ["1+1="], asked[0]), chat, main=True)
