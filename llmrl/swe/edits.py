"""Search/replace edits as language models write them: read from a text, written into one, made of two versions."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llmrl.answers.thoughts import after_thoughts
from llmrl.swe.places import changed_groups, find_lines
from llmrl.swe.tree import ChangeError, Files

Lines = tuple[str, ...]
TAGS = ("<think>", "</think>", "<solution>", "</solution>")
HEAD = re.compile(r"\n### (.*)\n<<<<<<< SEARCH\n")
MIDDLE, TAIL = "\n=======\n", "\n>>>>>>> REPLACE\n```"
NO_EDIT = "no search/replace block; expected <<<<<<< SEARCH, =======, >>>>>>> REPLACE"
ABOVE = 6  # lines above a block in which its path is looked for
_MARK = re.compile(
    r"[ \t]*(?:(?P<open><{5,})[ \t]*(?:SEARCH|ORIGINAL|HEAD)\b.*|(?P<middle>={5,})[ \t]*"
    r"|(?P<close>>{5,})[ \t]*(?:REPLACE|UPDATED|END)?[ \t`]*)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*(?:[\w+-]*[: \t]+)?(?P<path>[^\s`]*)")
_HEADING = re.compile(r"(?:#{1,6}|//)[ \t]+(.*)")
_LABEL = re.compile(r"^(?:(?:[-*]|\d+[.)])[ \t]+)?(?:(?:file ?(?:name|path)?|path)[ \t]*:[ \t]*)?", re.IGNORECASE)
_NAME = re.compile(r"""[^\s()=,;:<>{}|"'`*]*(?:/|\w\.\w|^\.\w)[^\s()=,;:<>{}|"'`*]*""")


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines of a file and the lines in their place.

    An edit without lines to search makes a new file; without lines in their place it deletes the lines, and the file
    where nothing is left. A file that ends in a newline has an empty line at its end.
    """

    path: str
    search: Lines
    replacement: Lines
    line: int = field(default=0, compare=False)  # where it stands in the text, from 1


def strict_edits(text: str) -> list[Edit]:
    """Read an answer in SWE-RL's form, exactly as the released reward does.

    Raises:
        ChangeError: `tags`: a tag is missing or there twice, or the thought is empty; `no_edit`: there is no block.
    Source: Wei et al. 2025 (arXiv 2502.18449), and its released reward function.
    """
    for tag in TAGS:
        if text.count(tag) != 1:
            raise ChangeError("tags", f"{tag} stands there {text.count(tag)} times; expected once")
    if not _between(text, "<think>", "</think>").strip():
        raise ChangeError("tags", "the thought is empty")
    if text.index("<solution>") < text.index("</think>"):
        raise ChangeError("tags", "the solution stands in the thoughts, or before them")
    edits = _strict_blocks(_between(text, "<solution>", "</solution>").strip())
    if not edits:
        raise ChangeError("no_edit", "no search/replace block in the solution")
    return edits


def _strict_blocks(solution: str) -> list[Edit]:
    """Find the search/replace blocks.

    As the expression ```` ```.*?\\n### (.*)\\n<<<<<<< SEARCH\\n(.*?)\\n=======\\n(.*?)\\n>>>>>>> REPLACE\\n``` ````, in
    which only the lazy groups run over lines; but in one pass, also where a block never ends.
    """
    edits, at = [], 0
    while head := HEAD.search(solution, at):
        fence = solution.rfind("```", max(at, solution.rfind("\n", at, head.start()) + 1), head.start())
        if fence < 0:
            at = head.start() + 1
            continue
        middle = solution.find(MIDDLE, head.end())
        tail = solution.find(TAIL, middle + len(MIDDLE)) if middle >= 0 else -1
        if tail < 0:
            break
        search, replacement = solution[head.end() : middle], solution[middle + len(MIDDLE) : tail]
        edits.append(Edit(head[1], tuple(search.split("\n")), tuple(replacement.split("\n"))))
        at = tail + len(TAIL)
    return edits


def read_edits(text: str) -> list[Edit]:
    """Read the search/replace blocks of any model's text.

    Blocks are looked for in the last `<solution>`, or else behind the thoughts. A path stands above its block: in a
    heading, in the fence, bold, in quotes or bare; without one the block belongs to the file of the block before.
    Fences may be missing. Markers have five signs or more; a block ends with as many as it began with, so that lines
    of its text may be markers, too.

    Raises:
        ChangeError: `no_edit`: there is no block; `unclosed`: a block has no middle or no end; `no_path`: the first
            block names no file.
    """
    part = _solution(text)
    if "<<<<<" not in part:  # a long answer without a block need not be cut into lines
        raise ChangeError("no_edit", NO_EDIT)
    above = text[: text.rfind(part)].count("\n") if part else 0
    lines = part.replace("\r\n", "\n").split("\n")
    marks = _Marks(lines)
    edits: list[Edit] = []
    end = -1  # line of the last block's end
    while (start := marks.first("open", end)) is not None:
        middle, close = marks.ends(start, above)
        path = _path_above(lines, end + 1, start) or (edits[-1].path if edits else "")
        if not path:
            raise ChangeError(
                "no_path", f"line {above + start + 1}: no path above this block; expected ### path/to/file"
            )
        search, replacement = lines[start + 1 : middle], lines[middle + 1 : close]
        edits.append(Edit(path, tuple(search), tuple(replacement), above + start + 1))
        end = close
    if not edits:
        raise ChangeError("no_edit", NO_EDIT)
    return edits


class _Marks:
    """Lines that are markers of blocks, by their kind and their number of signs."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.sizes: dict[int, int] = {}
        self.places: dict[tuple[str, int], list[int]] = {}  # size 0: of any
        for place, line in enumerate(lines):
            if (mark := _MARK.fullmatch(line)) is not None:
                kind = str(mark.lastgroup)
                self.sizes[place] = len(mark[kind])
                for size in (0, self.sizes[place]):
                    self.places.setdefault((kind, size), []).append(place)

    def first(self, kind: str, behind: int, size: int = 0) -> int | None:
        """The first marker of a kind behind a line."""
        places = self.places.get((kind, size), [])
        at = bisect_right(places, behind)
        return places[at] if at < len(places) else None

    def ends(self, start: int, above: int) -> tuple[int, int]:
        """Lines of the middle and the end of the block that begins at `start`."""
        size = self.sizes[start]
        again = self.first("open", start, size)
        for wanted in (size, 0):  # as many signs as the beginning, else any number
            middle = self.first("middle", start, wanted)
            close = None if middle is None else self.first("close", middle, wanted)
            if close is None and wanted and middle is not None:
                close = self.first("close", middle)
            if middle is not None and close is not None and (again is None or close < again):
                return middle, close
        missing = "=======" if middle is None else ">>>>>>> REPLACE"
        raise ChangeError("unclosed", f"line {above + start + 1}: this block never ends; expected {missing} below it")


def _solution(text: str) -> str:
    """The part of a text in which edits are looked for."""
    answer = after_thoughts(text)
    return answer.rpartition("<solution>")[2].partition("</solution>")[0]


def _path_above(lines: Sequence[str], first: int, start: int) -> str:
    """The path in the lines between the last block and this one, the nearest; "" where there is none."""
    seen = 0
    for place in range(start - 1, first - 1, -1):
        line = lines[place].strip()
        if not line:
            continue
        seen += 1
        if seen > ABOVE:
            break
        fence = _FENCE.match(line)
        if path := _path(fence["path"] if fence else line, near=seen == 1 and not fence):
            return path
    return ""


def _path(line: str, near: bool) -> str:
    """Read a path from a line above a block; "" where it is none. Next to the block, a heading may be any word."""
    heading = _HEADING.match(line)
    bare = (heading[1] if heading else line).strip()
    for _ in range(2):  # `**File:** "src/a.py":` has signs on both sides of its label
        bare = _LABEL.sub("", bare, count=1).rstrip(":").strip("`\"'* ")
    return bare if (near and heading) or _NAME.fullmatch(bare) else ""


def write_edits(edits: Sequence[Edit]) -> str:
    """Write edits as blocks that `read_edits` reads as they were."""
    return "\n".join(_written(edit) for edit in edits)


def _written(edit: Edit) -> str:
    marks = (mark for line in edit.search + edit.replacement if (mark := _MARK.fullmatch(line)))
    size = max([7, *(len(mark[str(mark.lastgroup)]) + 1 for mark in marks)])
    language = "python" if edit.path.endswith(".py") else ""
    lines = [f"```{language}", f"### {edit.path}", "<" * size + " SEARCH", *edit.search, "=" * size]
    return "\n".join([*lines, *edit.replacement, ">" * size + " REPLACE", "```", ""])


def edits_between(files: Files, changed: Mapping[str, str | None]) -> list[Edit]:
    """Make edits that turn `files` into `changed`; each one's lines stand once in the file that it finds."""
    edits: list[Edit] = []
    for path, text in changed.items():
        old = files.get(path)
        if text == old:
            continue
        if old is not None and text is not None and old.strip("\n"):
            edits += _changes(path, old.split("\n"), text.split("\n"))
            continue
        if old is not None:
            lines = tuple(old.split("\n")) if old else ()
            edits.append(Edit(path, lines, ()))
        if text is not None:
            edits += _new_file(path, text)
    return edits


def _new_file(path: str, text: str) -> Iterator[Edit]:
    if not text or text.endswith("\n"):
        yield Edit(path, (), tuple(text[:-1].split("\n")) if text else ())
        return
    lines = tuple(text.split("\n"))
    yield Edit(path, (), lines)
    yield Edit(path, (*lines, ""), lines)  # takes the newline at the end away


def _changes(path: str, old: list[str], new: list[str]) -> Iterator[Edit]:
    """Edits of one file in order, each with so much around it that its place is the only one."""
    done = old  # the file behind the edits so far
    for group in changed_groups(old, new):
        shift = len(done) - len(old)
        start, end = group[0][1] + shift, group[-1][2] + shift
        lines = new[group[0][3] : group[-1][4]]
        while not _stands_once(done, done[start:end]) or not any(done[start:end]):
            if start == 0 and end == len(done):
                break
            before, behind = done[max(start - 1, 0) : start], done[end : end + 1]
            lines = [*before, *lines, *behind]
            start, end = start - len(before), end + len(behind)
        yield Edit(path, tuple(done[start:end]), tuple(lines))
        done = [*done[:start], *lines, *done[end:]]


def _stands_once(lines: list[str], search: list[str]) -> bool:
    whole, wanted = ([f"{line}\n" for line in part] for part in (lines, search))
    return len(find_lines(whole, wanted, overlapping=True)) == 1


def _between(text: str, start: str, end: str) -> str:
    return text.split(start)[1].split(end)[0]
