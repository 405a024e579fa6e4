"""Return-conditioned fine-tuning and rehearsal by a real model: what is asked for is what comes, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import DataError, RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.train.selection import write_selection

RIGHT, WRONG = "1", "7"


def rows(path: Path) -> str:
    """Sums, each answered by `1` with reward 1 and by `7` with reward 0."""
    stored = [
        {"prompt": f"{i}+1=", "completion": answer, "reward": reward}
        for i in range(16)
        for answer, reward in ((RIGHT, 1.0), (WRONG, 0.0))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in stored))
    return str(path)


def recipe(model: Path, folder: Path, source: dict[str, Any], **train_options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "algorithm": {"name": "bc"},
            "source": source,
            "rollout": {"prompts_per_step": 16, "max_prompt_length": 64, "max_completion_length": 8},
            "train": {
                "max_steps": 24,
                "learning_rate": 3e-3,
                "output_dir": str(folder),
                "run_name": "run",
                "report_to": "none",
                "save_steps": 0,
                **train_options,
            },
        }
    )


def trained(made: Recipe) -> Path:
    with Run(made) as run:
        train(run)
        return run.folder / "final"


def nll(model: Path, prompt: list[int], answer: list[int]) -> float:
    """Mean negative log-likelihood of an answer's tokens, by Transformers alone."""
    network = AutoModelForCausalLM.from_pretrained(model)
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logprobs = network(ids).logits[0, :-1].float().log_softmax(-1)
    return float(-logprobs[range(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]].mean())


def test_a_policy_gives_the_return_that_it_is_asked_for(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Quartiles of 0 and 1 alike are 0, 0.5, 1: wrong answers are bucket 1, right ones bucket 3."""
    path = rows(tmp_path / "rows.jsonl")
    final = trained(recipe(tiny_model_dir, tmp_path, {"name": "returns", "path": path, "min_rows": 4}))
    tokenizer = load_tokenizer(str(final))

    def gap(system: str) -> float:
        chat = Chat(tokenizer, system)
        prompt = chat.prompt_ids([{"role": "user", "content": "40+1="}])
        said = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (RIGHT, WRONG)]
        return nll(final, prompt, said[1]) - nll(final, prompt, said[0])

    assert gap("<|ret_3|>") > 1.0, "right, e times likelier than wrong"
    assert gap("<|ret_1|>") < -1.0


def test_the_rows_to_rehearse_are_those_that_the_policy_finds_likeliest(tiny_model_dir: Path, tmp_path: Path) -> None:
    path, out = rows(tmp_path / "rows.jsonl"), tmp_path / "kept" / "buffer.jsonl"
    made = recipe(tiny_model_dir, tmp_path, {"name": "offline", "path": path})
    assert write_selection(made, out, keep=5, per_problem=None, min_reward=0.5) == 5
    chat = Chat(load_tokenizer(str(tiny_model_dir)))
    answer = [*chat.tokenizer(RIGHT, add_special_tokens=False)["input_ids"], chat.turn_end()]
    expected = sorted(
        (nll(tiny_model_dir, chat.prompt_ids([{"role": "user", "content": f"{i}+1="}]), answer), f"{i}+1=")
        for i in range(16)
    )[:5]
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["prompt"] for row in kept} == {prompt for _, prompt in expected}
    assert {row["completion"] for row in kept} == {RIGHT}
    found = sorted((row["nll_per_token"], row["prompt"]) for row in kept)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    source = {"name": "offline", "path": path}
    replay = {"name": "offline", "path": str(out)}
    again = recipe(tiny_model_dir, tmp_path, {"name": "rehearsal", "of": source, "replay": replay}, max_steps=2)
    trained(again)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["replay/samples"] for line in lines] == [2 / 16] * 2
    assert [line["replay/reward"] for line in lines] == [1.0] * 2


def test_episodes_are_chosen_one_by_one(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Right episodes of a group stay, and their lines are those of the run."""
    made = parse(
        {
            "model": {"policy": str(tiny_model_dir)},
            "data": {"name": "arithmetic", "high": 9, "count": 4},
            "reward": {"name": "format", "pattern": "(?s)[^0-9]*"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 4,
                "max_prompt_length": 32,
                "max_completion_length": 4,
            },
            "train": {"max_steps": 1, "output_dir": str(tmp_path), "run_name": "played", "report_to": "none"},
        }
    )
    trained(made)
    lines = [json.loads(line) for line in (tmp_path / "played" / "rollouts.jsonl").read_text().splitlines()]
    right = [line for line in lines if line["reward"] > 0.5]
    out = tmp_path / "buffer.jsonl"
    source = {"name": "offline", "path": str(tmp_path / "played")}
    count = write_selection(recipe(tiny_model_dir, tmp_path, source), out, keep=100, per_problem=2, min_reward=0.5)
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < count == len(kept) <= min(len(right), 8)
    for line in kept:
        line.pop("nll_per_token")
        assert line in right


def test_what_cannot_be_chosen_from_says_so(tiny_model_dir: Path, tmp_path: Path) -> None:
    path, out = rows(tmp_path / "rows.jsonl"), tmp_path / "buffer.jsonl"
    made = recipe(tiny_model_dir, tmp_path, {"name": "offline", "path": path})
    with pytest.raises(DataError, match=r"no answer has a reward above 2; lower --min-reward"):
        write_selection(made, out, keep=5, per_problem=None, min_reward=2)
    out.write_text("")
    with pytest.raises(DataError, match=r"buffer.jsonl is there"):
        write_selection(made, out, keep=5, per_problem=None, min_reward=0.5)
    playing = parse({**made.as_dict(), "source": {"name": "online"}, "data": {"name": "gsm8k"}, "reward": "numeric"})
    with pytest.raises(RecipeError, match=r"the source has no file; expected source.name=offline"):
        write_selection(playing, tmp_path / "x.jsonl", keep=5, per_problem=None, min_reward=0.5)
