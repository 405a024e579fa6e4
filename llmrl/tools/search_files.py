"""Search in the text files of a folder, by words."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from llmrl.recipe.ranges import Count
from llmrl.tool_calls.functions import ToolFunction, of_python

LARGEST = 2 << 20  # bytes of a file that is read
LINE = 300  # characters of a line that are shown


@dataclass(frozen=True, kw_only=True)
class SearchFiles:
    """Options of the tool `search_files`. Nothing outside the folder is read, whatever a link or a path says."""

    folder: str
    pattern: str = "**/*"  # of files, in the folder
    max_results: Count = 10  # lines

    def __post_init__(self) -> None:
        if not Path(self.folder).is_dir():
            raise ValueError(f"folder {self.folder!r}: no folder there; expected one with text files")
        if self.max_results < 1:
            raise ValueError(f"max_results {self.max_results}: expected at least 1")

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Sequence[ToolFunction]]:
        """The functions `search` and `read`."""

        def search(query: str) -> str:
            """Search the files for lines that have the words of a query, the best first.

            Args:
                query: Words, such as: capital France.
            """
            return "\n".join(self.found(query)) or f"no line has any word of {query!r}"

        def read(path: str, first: int = 1, lines: int = 50) -> str:
            """Read lines of a file.

            Args:
                path: The file, as the search names it.
                first: The number of the first line, from 1.
                lines: How many.
            """
            texts = self._text(self._inside(path)).splitlines()[max(first, 1) - 1 :][: max(lines, 0)]
            return "\n".join(f"{number}: {line[:LINE]}" for number, line in enumerate(texts, max(first, 1)))

        yield [of_python(search), of_python(read)]

    def found(self, query: str) -> list[str]:
        """Lines with words of the query, `path:line: text`, those with most of them first."""
        words = set(re.findall(r"\w+", query.lower()))
        scored = []
        for path in self._files():
            for number, line in enumerate(self._text(path).splitlines(), 1):
                hits = len(words & set(re.findall(r"\w+", line.lower())))
                if hits:
                    where = path.relative_to(self._root)
                    scored.append((-hits, str(where), number, f"{where}:{number}: {line.strip()[:LINE]}"))
        return [line for *_, line in sorted(scored)[: self.max_results]]

    @property
    def _root(self) -> Path:
        return Path(self.folder).resolve()

    def _files(self) -> Iterator[Path]:
        for path in sorted(self._root.glob(self.pattern)):
            if path.is_file() and path.resolve().is_relative_to(self._root) and path.stat().st_size <= LARGEST:
                yield path

    def _inside(self, path: str) -> Path:
        asked = (self._root / path).resolve()
        if asked not in {file.resolve() for file in self._files()}:
            raise ValueError(f"no file {path!r}; expected one that the search names")
        return asked

    def _text(self, path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace")


plugin = SearchFiles
