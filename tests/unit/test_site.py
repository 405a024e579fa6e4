"""The site of mkdocs.yml: its navigation holds each page of the index, and links that leave docs/ are carried along."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mkdocs", reason="the site needs mkdocs-material, of the extra dev")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_holds_every_row_of_the_index(hooks: ModuleType) -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    found = [page for pages in hooks.sections(index).values() for _, page in pages]
    rows = [line.split(" | ")[0] for line in index.splitlines() if line.startswith("| [")]
    assert sorted(found) == sorted(page for row in rows for page in re.findall(r"\]\(([^)]+)\)", row))
    assert len(found) == len(set(found)) > 40


@pytest.mark.parametrize(
    ("link", "page", "expected"),
    [
        ("[a](../recipes/demo.yaml)", "demo.md", "[a](recipes/demo.yaml.md)"),
        ("[a](../../recipes/demo.yaml)", "algorithms/grpo.md", "[a](../recipes/demo.yaml.md)"),
        ("[a](../benchmarks/host_side.json)", "training.md", "[a](benchmarks/host_side.json)"),
        ("[a](../CONTRIBUTING.md#add-a-thing)", "index.md", "[a](CONTRIBUTING.md#add-a-thing)"),
        ("[a](rewards.md#measured)", "index.md", "[a](rewards.md#measured)"),
        ("![a](results/learning.png)", "index.md", "![a](results/learning.png)"),
        ("[a](nowhere.md)", "index.md", "[a](nowhere.md)"),
        ("[a](https://a.b/c)", "index.md", "[a](https://a.b/c)"),
    ],
)
def test_links_of_pages_are_moved(hooks: ModuleType, link: str, page: str, expected: str) -> None:
    assert hooks.moved(link, page, ROOT / "docs" / page) == expected


def test_links_of_a_file_outside_docs_are_moved(hooks: ModuleType) -> None:
    text = "[a](docs/rewards.md#measured) [b](LICENSE) [c](docs/index.md)"
    moved = hooks.moved(text, "CONTRIBUTING.md", ROOT / "CONTRIBUTING.md")
    assert moved == "[a](rewards.md#measured) [b](LICENSE) [c](index.md)"


def test_the_modules_of_a_package_are_its_public_ones(hooks: ModuleType) -> None:
    found = hooks.modules({"package": "llmrl.algorithms"})
    assert {"llmrl.algorithms.grpo", "llmrl.algorithms.ppo"} <= set(found)
    assert not [name for name in found if "._" in name]
