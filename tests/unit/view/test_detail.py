from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.view import vocabulary
from llmrl.view.detail import NO_TOKENIZER, NO_TOKENS, detail
from llmrl.view.vocabulary import TokenTexts, of_run
from tests.view_runs import write_step


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Path:
    return tiny_model_dir / "tokenizer.json"


def first_line(folder: Path, **facts: Any) -> dict[str, Any]:
    write_step(folder, 0, 2, **facts)
    line: dict[str, Any] = json.loads((folder / "rollouts.jsonl").read_text().splitlines()[0])
    return line


def test_pieces_are_the_text_cut_in_tokens(tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    text = "Ein Wort, 12+3=15 é 🙂 <b>\n\tend"
    ids = Tokenizer.from_file(str(tokenizer)).encode(text).ids
    pieces = TokenTexts(tokenizer).pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    assert len(TokenTexts(tokenizer).pieces([*ids, 10**6])) == len(ids) + 1, "an id that it has not"


def test_every_number_of_a_token_is_there(tmp_path: Path, tokenizer: Path) -> None:
    line = first_line(tmp_path)
    line["token_rewards"] = [0.5, 0, -1.0]
    tokens = detail(line, TokenTexts(tokenizer))["turns"][0]["tokens"]
    assert set(tokens["columns"]) == {"advantage", "gap", "entropy", "surprise", "reward"}
    assert {len(column) for column in tokens["columns"].values()} == {len(tokens["ids"])} == {3}
    assert tokens["columns"]["surprise"] == [0.5, 1.5, 2.5]
    assert tokens["columns"]["advantage"] == line["turns"][0]["advantages"]
    assert tokens["columns"]["reward"] == [0.5, 0.0, -1.0]


def test_one_number_stands_for_every_token(tmp_path: Path, tokenizer: Path) -> None:
    line = first_line(tmp_path)
    line["turns"][0]["advantages"] = -0.5
    assert detail(line, TokenTexts(tokenizer))["turns"][0]["tokens"]["columns"]["advantage"] == [-0.5] * 3


def test_what_a_record_lacks_is_said(tmp_path: Path, tokenizer: Path) -> None:
    line = first_line(tmp_path)
    for key in ("advantages", "trainer_gaps", "entropies"):
        del line["turns"][0][key]
    missing = detail(line, TokenTexts(None))["missing"]
    assert set(missing) == {"advantage", "gap", "entropy", "reward", "tokenizer"}
    assert "rollout.log_trainer=true" in missing["gap"]
    assert missing["tokenizer"] == NO_TOKENIZER
    for key in ("token_ids", "logprobs"):
        del line["turns"][0][key]
    found = detail(line, TokenTexts(tokenizer))
    assert found["missing"]["tokens"] == NO_TOKENS
    assert found["turns"][0]["tokens"] is None
    assert found["turns"][0]["text"] == line["turns"][0]["text"]


def test_rewards_of_steps_reach_their_tokens(tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    text = "1+1=2\nthen 3"
    encoded = Tokenizer.from_file(str(tokenizer)).encode(text)
    turn = {"text": text, "token_ids": encoded.ids, "logprobs": [-1.0] * len(encoded.ids)}
    line = {"turns": [turn], "steps": [0.25, 0.75], "step_ends": [6, len(text)]}
    tokens = detail(line, TokenTexts(tokenizer))["turns"][0]["tokens"]
    place = 0
    for piece, reward in zip(tokens["pieces"], tokens["columns"]["reward"], strict=True):
        assert reward == (0.25 if place < 6 else 0.75)
        place += len(piece)


def test_dense_rewards_are_of_the_policys_last_turn(tmp_path: Path, tokenizer: Path) -> None:
    line = first_line(tmp_path, turns=2)
    line["token_rewards"] = [1.0, 2.0, 3.0]
    line["turns"].append({**line["turns"][1], "model": "frozen"})
    columns = [turn["tokens"]["columns"] for turn in detail(line, TokenTexts(tokenizer))["turns"]]
    assert ["reward" in each for each in columns] == [False, True, False]


def test_the_tokenizer_is_the_runs_own(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_cached", lambda _name: iter(()))
    policy, final, other = (tmp_path / name for name in ("policy", "run/final", "other"))
    recipe = {"model": {"policy": str(policy)}}
    assert not of_run(tmp_path / "run", recipe).known
    for folder in (policy, final, other):
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
        expected = folder if folder is not other else final
        assert of_run(tmp_path / "run", recipe).file == expected / "tokenizer.json"
    assert of_run(tmp_path / "run", recipe, other).file == other / "tokenizer.json"
    (other / "tokenizer.json").write_text("{broken")
    vocabulary._read.cache_clear()
    assert TokenTexts(other / "tokenizer.json").pieces([5, 6]) == ["⟨5⟩", "⟨6⟩"]
    for broken in ({}, {"model": None}, {"model": {"policy": 5}}, {"model": {"policy": "a/b"}}):
        assert of_run(tmp_path / "nowhere", broken).file is None
