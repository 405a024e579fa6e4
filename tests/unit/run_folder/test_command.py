"""The command to type next is the one that was typed, with another end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmrl.run_folder import command

GOOD = Path("runs/one/checkpoints/step-000002")
NEXT = "--resume-from runs/one/checkpoints/step-000002"


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/usr/bin/llmrl", "train", "a b.yaml", "--resume", "train.seed=1"], "llmrl train 'a b.yaml' train.seed=1"),
        (["/x/llmrl/__main__.py", "train", "a.yaml", "--resume-from", "step-000009"], "python -m llmrl train a.yaml"),
        (["llmrl", "train", "a.yaml", "--resume-from=step-000009"], "llmrl train a.yaml"),
    ],
)
def test_alone(argv: list[str], typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command.resuming(GOOD) == f"{typed} {NEXT}"
    assert command.beginning_anew("one-anew") == f"{typed} train.run_name=one-anew"


@pytest.mark.parametrize(
    ("parent", "typed"),
    [
        ("/v/python\0/v/bin/accelerate\0launch\0--num_processes\x002\0-m\0llmrl\0train\0a.yaml\0--resume\0",
         "accelerate launch --num_processes 2 -m llmrl train a.yaml"),
        ("python\0-m\0accelerate.commands.launch\0-m\0llmrl\0train\0a.yaml\0--resume\0",
         "python -m accelerate.commands.launch -m llmrl train a.yaml"),
        ("bash\0-c\0accelerate launch ...\0", "llmrl train a.yaml"),
    ],
)  # fmt: skip
def test_behind_a_launcher(parent: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    (tmp_path / str(os.getppid())).mkdir()
    (tmp_path / str(os.getppid()) / "cmdline").write_bytes(parent.encode())
    monkeypatch.setattr(command, "PROC", tmp_path)
    monkeypatch.setattr(sys, "argv", ["/v/bin/llmrl", "train", "a.yaml", "--resume"])
    assert command.resuming(GOOD) == f"{typed} {NEXT}"


def test_a_program_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mine.py", "--resume"])
    assert command.resuming(GOOD) == f"Run(recipe, resume=Path('{GOOD}'))"
    assert command.beginning_anew("one-anew") == "train.run_name=one-anew"
