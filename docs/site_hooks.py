"""Hooks of MkDocs: the navigation from docs/index.md, pages of the API, and links to files outside docs/."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")
LANGUAGES = {".yaml": "yaml", ".py": "python", ".sh": "bash", ".toml": "toml"}


def sections(index: str) -> dict[str, list[tuple[str, str]]]:
    """Titles and pages of each table of the index, by the table's heading."""
    found: dict[str, list[tuple[str, str]]] = {}
    for heading, table in re.findall(r"^\| (\w[\w ,]*) \| \|\n\|---\|---\|\n((?:\|.*\n)*)", index, re.MULTILINE):
        firsts = [row.split(" | ")[0] for row in table.splitlines()]
        found[heading.capitalize()] = [
            link for first in firsts for link in re.findall(r"\[([^]]+)\]\(([^)]+)\)", first)
        ]
    return found


def modules(named: list[str] | dict[str, str]) -> list[str]:
    """Modules of a page of the API: those that are named, or the public ones of a package."""
    if isinstance(named, list):
        return named
    package = named["package"]
    folder = ROOT / package.replace(".", "/")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix == ".py" or (path / "__init__.py").exists()]
    return [f"{package}.{path.stem}" for path in paths if not path.name.startswith("_")]


def published(path: Path) -> str:
    """Address, inside the site's sources, of a file of the repository that lies outside docs/."""
    inside = path.relative_to(ROOT).as_posix()
    return f"{inside}.md" if path.suffix in LANGUAGES else inside


def moved(markdown: str, page: str, home: Path) -> str:
    """A page's text with its links as the site needs them.

    Args:
        markdown: the text.
        page: the page's address inside the site's sources.
        home: the file that the text was read from; its links are relative to it.
    """

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        there = home.parent / target
        if "://" in target or not there.exists():  # what does not exist is left for MkDocs to refuse
            return match[0]
        there = Path(os.path.normpath(there))
        inside = (
            there.relative_to(ROOT / "docs").as_posix() if there.is_relative_to(ROOT / "docs") else published(there)
        )
        return f"]({os.path.relpath(inside, Path(page).parent)}{anchor})"

    return LINK.sub(link, markdown)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation: the tables of docs/index.md, then the pages of the API."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    nav: list[Any] = [{"Home": "index.md"}]
    for heading, pages in sections(index).items():
        nav.append({heading: [{title: page.removeprefix("../")} for title, page in pages]})
    nav.append({"API": [{title: f"api/{title.lower()}.md"} for title in config.extra["api"]]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API, and each file of the repository that a page links to."""
    for title, named in config.extra["api"].items():
        text = "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules(named))])
        files.append(File.generated(config, f"api/{title.lower()}.md", content=f"{text}\n"))
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    seen = set(waiting)
    while waiting:
        home = waiting.pop()
        for target, _ in LINK.findall(home.read_text(encoding="utf-8")):
            there = Path(os.path.normpath(home.parent / target))
            if "://" in target or there in seen or not there.is_file() or there.is_relative_to(ROOT / "docs"):
                continue
            if not there.is_relative_to(ROOT):
                raise PluginError(f"{home}: {target}: expected a file of the repository")
            seen.add(there)
            if there.suffix == ".md":
                waiting.append(there)
            files.append(_file(config, there))
    return files


def _file(config: MkDocsConfig, path: Path) -> File:
    if language := LANGUAGES.get(path.suffix):
        name = path.relative_to(ROOT).as_posix()
        text = (
            f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n````{language}\n{path.read_text(encoding='utf-8')}````\n"
        )
        return File.generated(config, published(path), content=text)
    return File.generated(config, published(path), abs_src_path=str(path))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page that lead out of docs/, or that come from outside it."""
    if page.file.abs_src_path is None:
        return markdown
    return moved(markdown, page.file.src_uri, Path(page.file.abs_src_path))
