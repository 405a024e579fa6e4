"""Files that bear on an issue and need no change: without them the prompt would tell which files to edit."""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from llmrl.datagen.swe.repository import Repository
from llmrl.swe.rows import is_code

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import|import[ \t]+([\w.]+))", re.MULTILINE)
NAMED, IMPORTED, NEAR = 2.0, 0.5, 0.2  # shares of the best score of words


class ContextFiles:
    """Ranks the code of a repository by how much it has to do with an issue; words of a file are counted once."""

    def __init__(self, repository: Repository, endings: Sequence[str]) -> None:
        self.repository, self.endings = repository, endings
        self._words: dict[str, frozenset[str]] = {}

    def ranked(self, blobs: Mapping[str, str], issue: str, edited: Sequence[str]) -> list[str]:
        """Paths of code that is not edited, the most relevant first.

        The score is the share of the issue's words that a file has, rare ones more (tf-idf), over the root of its
        number of words; a file that the issue names, that the edited ones import, or that lies beside them gets more.

        Args:
            blobs: objects of all files before the change, by path.
        """
        paths = [path for path in blobs if is_code(path, self.endings) and path not in edited]
        words = {path: self._words_of(blobs[path]) for path in paths}
        counts = Counter(word for path in paths for word in words[path])
        asked = set(_WORD.findall(issue))
        weights = {word: math.log(len(paths) / counts[word]) + 1.0 for word in asked if counts[word]}
        scores = {
            path: sum(weights.get(word, 0.0) for word in asked & words[path]) / math.sqrt(len(words[path]) + 1)
            for path in paths
        }
        best = max(scores.values(), default=0.0) or 1.0
        imported = self._imported(blobs, edited)
        folders = {posixpath.dirname(path) for path in edited}
        for path in paths:
            module = path.rpartition(".")[0].replace("/", ".")
            scores[path] += best * NAMED * (path in issue or posixpath.basename(path) in issue or module in issue)
            scores[path] += best * IMPORTED * any(module.endswith(name) for name in imported)
            scores[path] += best * NEAR * (posixpath.dirname(path) in folders)
        return sorted(paths, key=lambda path: (-scores[path], path))

    def _words_of(self, sha: str) -> frozenset[str]:
        if sha not in self._words:
            self._words[sha] = frozenset(_WORD.findall(self.repository.text(sha) or ""))
        return self._words[sha]

    def _imported(self, blobs: Mapping[str, str], edited: Sequence[str]) -> set[str]:
        """Names of modules that the edited files import, without the dots of relative imports."""
        texts = [self.repository.text(blobs[path]) or "" for path in edited if path in blobs]
        names = {(match[1] or match[2]).strip(".") for text in texts for match in _IMPORT.finditer(text)}
        return {name for name in names if name}
