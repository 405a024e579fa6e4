"""Refusals of `--dry-run` without weights and without a hub: nested rewards, data, folders, stored answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import LlmrlError
from llmrl.recipe import parse
from llmrl.train.dry_run import require_possible


def recipe(tmp_path: Path, **sections: Any) -> Any:
    """A sound recipe, some of its sections others."""
    (tmp_path / "q.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    whole: dict[str, Any] = {
        "model": {"policy": "owner/on-the-hub"},
        "data": {"name": "jsonl", "path": str(tmp_path / "q.jsonl")},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo"},
        "train": {"report_to": "none"},
    }
    return parse(whole | sections)


def test_what_only_a_hub_has_is_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_possible(recipe(tmp_path))
    assert "not looked at" not in capsys.readouterr().err
    require_possible(recipe(tmp_path, data={"name": "jsonl", "dataset_name": "owner/rows"}))
    assert "llmrl: not looked at: owner/rows: on the hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ({"name": "mix", "parts": {"numeric": 1, "numerik": 1}}, r"parts\.numerik.*did you mean 'numeric'"),
        ({"name": "mix", "parts": {"numeric": 1, "format": {"weight": 1, "patern": "x"}}}, "patern"),
        ({"name": "mix", "parts": {"numeric": 1, "mine:reward": 1}}, r"parts\.mine:reward.*No module named 'mine'"),
        ({"name": "mix", "parts": {"both": {"name": "mix", "weight": 1, "parts": {"numerik": 1}}}}, "numerik"),
        ({"name": "degenerate", "of": {"name": "numerik"}}, "of: unknown reward 'numerik'"),
        ({"name": "by_source", "sources": {"a": {"name": "numerik"}}}, r"sources\.a: unknown"),
        ({"name": "heron", "factors": [{"name": "numerik", "threshold": 0}]}, "numerik"),
        ({"name": "reward_model", "path": "runs/none"}, "runs/none: no such folder"),
        ({"name": "mix", "parts": {"reward_model": {"weight": 1, "path": "runs/none"}}}, "runs/none: no such folder"),
        ({"name": "code", "timeout_s": 60}, r"do not fit into rollout\.reward_timeout_s"),
    ],
)
def test_rewards_are_built_with_all_that_they_hold(tmp_path: Path, reward: dict[str, Any], expected: str) -> None:
    with pytest.raises(LlmrlError, match=expected):
        require_possible(recipe(tmp_path, reward=reward))


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"data": {"name": "jsonl", "path": "none.jsonl"}}, r"none\.jsonl: no such file"),
        ({"data": {"name": "jsonl", "path": "{q}", "prompt_column": "asked"}}, r"no column 'asked'; found question"),
        ({"data": {"name": "perturbed", "of": {"name": "jsonl", "path": "none.jsonl"}}}, r"none\.jsonl: no such file"),
        ({"model": {"policy": "runs/gsm8k/final"}}, r"model\.policy runs/gsm8k/final: no such folder here"),
        ({"model": {"policy": "{folder}/model"}}, r"/model: no such folder here.*holds beside"),
        ({"model": {"policy": "{q}"}}, r"q\.jsonl: a file; expected a model's folder"),
        ({"model": {"policy": "~/models/mine"}}, r"~ is not read here; write /"),
        ({"source": {"name": "offline", "path": "none.jsonl"}, "algorithm": {"name": "kto"}}, r"none\.jsonl: no such"),
        ({"eval": {"every": 5}}, r"eval\.every 5: without eval\.benchmarks nothing is evaluated"),
        ({"train": {"report_to": "aim"}}, r"report_to aim: not installed here"),
    ],
)
def test_files_folders_columns_and_trackers(tmp_path: Path, sections: dict[str, Any], expected: str) -> None:
    (tmp_path / "beside").mkdir()

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(entry) for key, entry in value.items()}
        return value.format(q=tmp_path / "q.jsonl", folder=tmp_path) if isinstance(value, str) else value

    with pytest.raises(LlmrlError, match=expected):
        require_possible(recipe(tmp_path, **placed(sections)))


def shaped(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    return [1.0] * len(completions)


@pytest.mark.parametrize("section", ["reward", "audit"])
def test_columns_that_a_reward_fills_itself(tmp_path: Path, section: str) -> None:
    rows = tmp_path / "taken.jsonl"
    rows.write_text('{"question": "1+1?", "answer": "2", "completions": "two"}\n')
    function = {"name": f"{__name__}:shaped"}
    sections = {"reward": function} if section == "reward" else {"audit": {"reward": function, "every": 1}}
    with pytest.raises(LlmrlError, match="the data has a column 'completions', and shaped is passed something"):
        require_possible(recipe(tmp_path, data={"name": "jsonl", "path": str(rows)}, **sections))
