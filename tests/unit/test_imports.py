"""Layers of imports: `docs/architecture.md`, section 10."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module may import its own layer and those below; the longest matching prefix decides.
LAYERS = {
    "llmrl": 0,
    "llmrl.types": 0,
    "llmrl.errors": 0,
    "llmrl.columns": 1,
    "llmrl.samples": 1,
    "llmrl.protocols": 1,
    "llmrl.plugins": 1,
    "llmrl.recipe": 1,
    "llmrl.trajectories": 1,
    "llmrl.ops": 2,
    "llmrl.chat": 2,
    "llmrl.batch": 2,
    "llmrl.aio": 2,
    "llmrl.answers": 2,
    "llmrl.browser": 2,
    "llmrl.clients": 2,
    "llmrl.critics": 2,
    "llmrl.datafiles": 2,
    "llmrl.dialogue": 2,
    "llmrl.encoding": 2,
    "llmrl.games": 2,
    "llmrl.sandbox": 2,
    "llmrl.scoring": 2,
    "llmrl.swe": 2,
    "llmrl.reward_models": 2,
    "llmrl.run_folder": 2,
    "llmrl.tool_calls": 2,
    "llmrl.vision": 2,
    "llmrl.vision.tiny": 7,
    "llmrl.gateway": 2,
    "llmrl.algorithms": 3,
    "llmrl.engines": 3,
    "llmrl.envs": 3,
    "llmrl.rewards": 3,
    "llmrl.data": 3,
    "llmrl.curricula": 3,
    "llmrl.agents": 3,
    "llmrl.tools": 3,
    "llmrl.simulators": 3,
    "llmrl.eval": 3,
    "llmrl.rollout": 4,
    "llmrl.reasoning": 4,
    "llmrl.offline": 4,
    "llmrl.sources": 5,
    "llmrl.search": 5,
    "llmrl.evaluation": 5,
    "llmrl.train": 6,
    "llmrl.api": 6,
    "llmrl.recipes": 7,
    "llmrl.datagen": 7,
    "llmrl.checks": 7,
    "llmrl.serve": 7,
    "llmrl.pipeline": 7,
    "llmrl.planning": 7,
    "llmrl.replaying": 7,
    "llmrl.tuning": 7,
    "llmrl.view": 7,
    "llmrl.tiny": 7,
    "llmrl.cli": 8,
    "llmrl.__main__": 8,
}
PLUGIN_FOLDERS = "algorithms engines envs rewards data sources search eval curricula agents tools"
KINDS = [f"llmrl.{kind}" for kind in PLUGIN_FOLDERS.split()]
LIGHT = {"llmrl.types", "llmrl.errors"}  # the standard library only
TRAINERS = {"accelerate", "deepspeed", "peft", "trl"}  # llmrl.train alone
WITHOUT_TORCH = [
    "llmrl.rewards",
    "llmrl.data",
    "llmrl.answers",
    "llmrl.games",
    "llmrl.scoring",
    "llmrl.sandbox",
    "llmrl.swe",
    "llmrl.run_folder",
    "llmrl.recipe",
    "llmrl.gateway",
    "llmrl.tool_calls",
    "llmrl.tools",
    "llmrl.agents",
    "llmrl.view",
]
HEAVY = {"torch", "transformers", "vllm", "sympy", "math_verify", "datasets", "swebench"}
INSTANT = HEAVY | TRAINERS | {"numpy", "pydantic", "yaml", "typer", "rich", "httpx"}


def files() -> list[Path]:
    found = (Path(folder) / name for folder, _, names in os.walk(ROOT / "llmrl", followlinks=True) for name in names)
    return sorted(path for path in found if path.suffix == ".py")


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def home(name: str, places: Iterator[str] | list[str]) -> str | None:
    """The longest of the places that holds the module."""
    holding = [place for place in places if name == place or name.startswith(place + ".")]
    return max(holding, key=len, default=None)


def imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Every module that a file imports, whether that happens on import of the file, and the line; types left out."""

    def walk(node: ast.AST, now: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other, now)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, now, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import; write it out"
            assert node.module
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inner = (ROOT / whole.replace(".", "/")).with_suffix(".py")
                is_module = inner.is_file() or inner.with_suffix("").is_dir()
                yield (whole if is_module else node.module), now, node.lineno
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, now and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def complaints(path: Path) -> Iterator[str]:
    name = module(path)
    place = home(name, list(LAYERS))
    own_kind = home(name, KINDS)
    for other, now, line in imports(path):
        at = f"{path.relative_to(ROOT)}:{line}: {name} imports {other}"
        top = other.partition(".")[0]
        if top == "llmrl":
            target = home(other, list(LAYERS))
            assert place is not None
            assert target is not None
            kind = home(other, KINDS)
            if LAYERS[target] > LAYERS[place]:
                yield f"{at}, which lies above it"
            if own_kind and kind and kind != own_kind:
                yield f"{at}: plug-ins of different kinds meet by name, through llmrl.plugins"
            continue
        if name in LIGHT and top not in sys.stdlib_module_names:
            yield f"{at}: expected the standard library only"
        if top in TRAINERS and place != "llmrl.train":
            yield f"{at}: only llmrl.train may"
        if now and top in HEAVY and home(name, WITHOUT_TORCH):
            yield f"{at} when it is imported: expected inside the function that needs it"
        if now and top in {"vllm", "swebench"}:
            yield f"{at} when it is imported: expected inside the function that needs it"


def test_imports_point_down() -> None:
    found = [complaint for path in files() for complaint in complaints(path)]
    assert not found, "\n".join(found)


def test_every_module_has_a_layer() -> None:
    places = [place for place in LAYERS if place != "llmrl"]
    assert [module(path) for path in files() if home(module(path), places) is None] == ["llmrl"]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("llmrl/ops/x.py", "from llmrl.train import loop", "above"),
        ("llmrl/ops/x.py", "def f():\n    from llmrl.rollout.worker import play", "above"),
        ("llmrl/rewards/x.py", "import llmrl.data.gsm8k", "by name"),
        ("llmrl/rewards/x.py", "import torch", "inside the function"),
        ("llmrl/engines/x.py", "import deepspeed", "only llmrl.train"),
        ("llmrl/engines/x.py", "from vllm import LLM", "inside the function"),
        ("llmrl/types.py", "import yaml", "standard library"),
    ],
)
def test_the_rule_bites(file: str, text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert [c for c in complaints(path) if words in c]
    path.write_text("import json\nfrom llmrl.types import Problem\ndef f():\n    import math", encoding="utf-8")
    assert not list(complaints(path))


@pytest.mark.parametrize(
    "name", ["llmrl", "llmrl.types", "llmrl.columns", "llmrl.protocols", "llmrl.plugins", "llmrl.recipe"]
)
def test_importing_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(*sorted(set({sorted(INSTANT)}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []
