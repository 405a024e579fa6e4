"""The command that was typed, with another end: for messages that say what to type next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LAUNCHERS = (
    *("accelerate", "torchrun", "accelerate.commands.launch", "torch.distributed.run"),
    *("deepspeed", "deepspeed.launcher.launch"),
)


def resuming(checkpoint: Path) -> str:
    """The command of this process, going on from a checkpoint."""
    plain = _without_resume(_typed())
    if plain is None:
        return f"Run(recipe, resume=Path({str(checkpoint)!r}))"
    return shlex.join([*plain, "--resume-from", str(checkpoint)])


def going_on() -> str:
    """The command of this process, going on from the newest checkpoint."""
    plain = _without_resume(_typed())
    return "Run(recipe, resume=True)" if plain is None else shlex.join([*plain, "--resume"])


def beginning_anew(run_name: str) -> str:
    """The command of this process, beginning anew in another folder."""
    plain = _without_resume(_typed())
    return f"train.run_name={run_name}" if plain is None else shlex.join([*plain, f"train.run_name={run_name}"])


def writing_recipe(path: Path) -> str:
    """The command of this process, writing its recipe into a file."""
    plain = _without_resume(_typed())
    words = "llmrl train RECIPE" if plain is None else shlex.join(plain)
    return f"{words} --dry-run > {shlex.quote(str(path))}"


def program() -> str:
    """Word to type for `llmrl`: its path where the shell has none, or that of another environment."""
    here = Path(sys.executable).parent / "llmrl"
    found = shutil.which("llmrl")
    if not here.exists() or (found is not None and Path(found).resolve() == here.resolve()):
        return "llmrl"
    with suppress(ValueError):
        here = here.relative_to(Path.cwd())
    return shlex.quote(str(here))


def _typed() -> Sequence[str] | None:
    """The words that were typed, behind a launcher too; None for a program that is not `llmrl`."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py" and program.parent.name == "llmrl":
        own = ["python", "-m", "llmrl", *sys.argv[1:]]
    elif program.name == "llmrl":
        own = ["llmrl", *sys.argv[1:]]
    else:
        return None
    return launched() or own


def launched() -> Sequence[str] | None:
    """The words of the launcher that started this process; None where none did."""
    try:
        words = (PROC / str(os.getppid()) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return None
    for place, word in enumerate(words[:4]):
        if Path(word).name in LAUNCHERS or word in LAUNCHERS:
            module = place > 0 and words[place - 1] == "-m"
            return [*(["python", "-m", word] if module else [Path(word).name]), *words[place + 1 :]]
    return None


def _without_resume(words: Sequence[str] | None) -> list[str] | None:
    if words is None:
        return None
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != "--resume" and not word.startswith("--resume-from"):
            kept.append(word)
        skip = word == "--resume-from"
    return kept
