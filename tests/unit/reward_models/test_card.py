from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmrl.errors import CheckpointError
from llmrl.reward_models.card import FILE, Calibration, Card, check_template, fingerprint, read, template_hash, write


def made(folder: Path, **changes: Any) -> Card:
    (folder / "model.safetensors").write_bytes(b"weights")
    card = Card(
        kind="process",
        link="sigmoid",
        template_sha256="t",
        calibration=Calibration(mean=0.5, std=1.0, low=-1.0, high=2.0, rows=9),
        backbone="base",
        backbone_sha256="b",
        weights_sha256=fingerprint(folder),
    )
    card = replace(card, **changes)
    write(folder, card)
    return card


def test_what_is_written_is_read(tmp_path: Path) -> None:
    card = made(tmp_path, template="{{ prompt }}é{{ response }}", separator="\n\n")
    assert read(tmp_path) == card
    assert read(tmp_path, "process") == read(tmp_path, ("token", "process")) == card


def edit(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / FILE).unlink(), r"no reward_model.json; found model.safetensors.*llmrl reward-model"),
        (lambda folder: (folder / FILE).write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / FILE).write_text("[]"), "holds list; expected an object"),
        (lambda folder: edit(folder, kindd="x"), "kindd: unknown key; did you mean 'kind'"),
        (lambda folder: edit(folder, kind="judge"), "kind: input should be 'outcome', 'verifier'"),
        (lambda folder: edit(folder, link="identity"), "link 'identity' for a process model; expected 'sigmoid'"),
        (lambda folder: edit(folder, format=2), "format 2: this version of llmrl reads 1"),
        (lambda folder: edit(folder, calibration={"mean": 1}), "calibration.std: missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weight"), "the weights are not those of"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    ],
)
def test_what_is_spoiled_is_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    made(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(CheckpointError, match="of kind 'process'; expected outcome or verifier"):
        read(tmp_path, ("outcome", "verifier"))
    with pytest.raises(CheckpointError, match="no such folder"):
        read(tmp_path / "nowhere")


def test_another_template_is_refused(tmp_path: Path) -> None:
    tokenizer = SimpleNamespace(chat_template="{{ messages }}")
    card = made(tmp_path, template_sha256=template_hash("chat", tokenizer))
    check_template(card, tokenizer, tmp_path)
    tokenizer.chat_template += " "
    with pytest.raises(CheckpointError, match="the tokenizer's chat template is not the one"):
        check_template(card, tokenizer, tmp_path)
    own = made(tmp_path, template="{{ response }}", template_sha256=template_hash("{{ response }}", tokenizer))
    check_template(own, tokenizer, tmp_path)
    with pytest.raises(CheckpointError, match=r"`template` in reward_model\.json is not the one"):
        check_template(replace(own, template="{{ prompt }}"), tokenizer, tmp_path)


def test_shards_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"12")
    (tmp_path / "b.safetensors").write_bytes(b"3")
    before = fingerprint(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"1")
    (tmp_path / "b.safetensors").write_bytes(b"23")
    assert fingerprint(tmp_path) != before
