"""Fingerprints of models: equal for equal weights, wherever they lie."""

from __future__ import annotations

from pathlib import Path

from llmrl.run_folder.fingerprint import fingerprint


def model(folder: Path, weights: bytes = b"w", config: bytes = b"{}") -> str:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_bytes(config)
    (folder / "README.md").write_text(folder.name)
    return fingerprint(str(folder))


def test_weights_and_configuration_count_and_the_place_does_not(tmp_path: Path) -> None:
    first = model(tmp_path / "a")
    assert model(tmp_path / "b") == first
    assert len({first, model(tmp_path / "c", weights=b"v"), model(tmp_path / "d", config=b"[]")}) == 3


def test_a_name_of_the_hub_stands_for_itself() -> None:
    assert fingerprint("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B@main"
    assert fingerprint("Qwen/Qwen3-0.6B", "abc") == "Qwen/Qwen3-0.6B@abc"
