"""Apply search/replace edits to the texts of files: as SWE-RL's reward does, or as people mean them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmrl.swe.edits import Edit, Lines
from llmrl.swe.places import find_lines
from llmrl.swe.tree import ChangeError, Changes, Files, inside

MOST = 20_000_000  # characters of a file behind an edit


def replaced_strictly(files: Files, edits: Iterable[Edit]) -> dict[str, str]:
    """Apply edits by SWE-RL's rule: a search begins a line, may end within one, and is replaced wherever it stands.

    A file that is not there is empty.

    Returns:
        The text of each file that an edit names.
    Raises:
        ChangeError: `same`: an edit changes nothing; `not_found`: its lines do not stand there; `too_long`: the file
            would be longer than `MOST`.
    """
    changed: dict[str, str] = {}
    for edit in edits:
        search, replacement = "\n".join(edit.search), "\n".join(edit.replacement)
        now = changed.get(edit.path, "\n" + files.get(edit.path, ""))  # so that the searched text begins a line
        if search == replacement:
            raise ChangeError("same", f"{edit.path}: a block replaces lines by themselves")
        if "\n" + search not in now:
            raise ChangeError("not_found", f"{edit.path}: no such lines as {search[:80]!r}")
        _require_room(edit, now.count("\n" + search) * len(replacement) + len(now))
        changed[edit.path] = now.replace("\n" + search, "\n" + replacement)
    return {path: now[1:] for path, now in changed.items()}


def replaced(files: Files, edits: Iterable[Edit]) -> Changes:
    """Apply edits of whole lines, in order, each to what those before it left.

    Lines that stand there exactly are replaced in every place. Where there are none, the one place counts that is alike
    but for blanks at the ends of lines, for empty lines at the edges, for the same indentation more or less on every
    line (the replacement is moved with it), or for the rest of the last line. An edit without lines to search makes a
    file.

    Returns:
        The new text of each file that changed; None where an edit left nothing of it.
    Raises:
        ChangeError: `outside`: a path leads out of the tree; `same`, `not_found`; `ambiguous`: several are alike;
            `exists`: a file to make is there already; `too_long`: a file would be longer than `MOST`.
    """
    changed: Changes = {}
    for edit in edits:
        path = inside(edit.path)
        old = changed[path] if path in changed else files.get(path)
        changed[path] = _edited(edit, old)
    return {path: text for path, text in changed.items() if text != files.get(path)}


def _edited(edit: Edit, text: str | None) -> str | None:
    """The file behind an edit."""
    blank = not any(line.strip() for line in edit.search)
    if blank and (text is None or not text.strip("\n")):
        if text is not None and not edit.replacement:
            return None
        return "\n".join([*edit.replacement, ""]) if edit.replacement else ""
    where = f"{edit.path}, edit of line {edit.line}" if edit.line else edit.path
    if text is None:
        raise ChangeError("not_found", f"{where}: no such file; expected the path of one, or no lines to search")
    if blank:
        raise ChangeError("exists", f"{where}: no lines to search in a file that is there; expected some of its lines")
    if edit.search == edit.replacement:
        raise ChangeError("same", f"{where}: the lines are replaced by themselves; expected a change")
    lines = text.split("\n")
    if places := _places(lines, edit.search):
        _require_room(edit, len(places) * sum(len(line) + 1 for line in edit.replacement) + len(text))
        lines = _with(lines, places, len(edit.search), edit.replacement)
        return "\n".join(lines) or ("" if edit.replacement else None)
    return _edited_loosely(edit, text, where)


def _edited_loosely(edit: Edit, text: str, where: str) -> str:
    """The file behind an edit whose lines do not stand there exactly."""
    lines = text.split("\n")
    bare_lines = [line.rstrip() for line in lines]
    search, replacement = _without_edges(edit.search), edit.replacement
    if search != edit.search:
        replacement = _without_edges(replacement)
    places = _places(bare_lines, [line.rstrip() for line in search])
    if not places:
        moves = _moved_places(lines, search)
        places = list(moves)
        if len(places) == 1 and (moved := _moved(replacement, *moves[places[0]])) is not None:
            replacement = moved
    if len(places) > 1:
        numbers = ", ".join(str(place + 1) for place in places[:5])
        raise ChangeError("ambiguous", f"{where}: like lines {numbers}; expected lines that stand there exactly")
    if places:
        return "\n".join(_with(lines, places, len(search), replacement))
    whole, wanted = f"\n{text}", "\n" + "\n".join(edit.search)
    if whole.count(wanted) == 1:  # it ends within a line
        return whole.replace(wanted, "\n".join(["", *edit.replacement]))[1:]
    raise ChangeError("not_found", f"{where}: {_missing(bare_lines, search)}")


def _require_room(edit: Edit, characters: int) -> None:
    """A few edits of lines that stand in many places would else fill any memory."""
    if characters > MOST:
        raise ChangeError("too_long", f"{edit.path}: {characters} characters behind this edit; expected at most {MOST}")


def _missing(lines: list[str], search: Sequence[str]) -> str:
    known = {line.strip() for line in lines}
    unknown = [line.strip() for line in search if line.strip() not in known]
    if unknown:
        return f"no such line as {unknown[0][:100]!r}; expected lines of the file"
    return (
        f"these lines, from {search[0].strip()[:100]!r}, do not stand one behind the other; expected lines of the file"
    )


def _places(lines: Sequence[str], search: Sequence[str]) -> list[int]:
    """Numbers of the lines, from 0, at which the searched lines stand, without overlap."""
    return find_lines([f"{line}\n" for line in lines], [f"{line}\n" for line in search])


def _with(lines: Sequence[str], places: Sequence[int], length: int, replacement: Sequence[str]) -> list[str]:
    made: list[str] = []
    done = 0
    for place in places:
        made += [*lines[done:place], *replacement]
        done = place + length
    return [*made, *lines[done:]]


def _without_edges(lines: Lines) -> Lines:
    """Lines without the empty ones at both ends."""
    full = [number for number, line in enumerate(lines) if line.strip()]
    return lines[full[0] : full[-1] + 1] if full else ()


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _moved_places(lines: Sequence[str], search: Lines) -> dict[int, tuple[str, str]]:
    """Places of the lines under another indentation: what to take from the front of each, and what to set there."""
    found = {}
    for place in _places([line.strip() for line in lines], [line.strip() for line in search]):
        there, here = _indentation(lines[place]), _indentation(search[0])
        shared = 0
        while shared < min(len(there), len(here)) and there[-1 - shared] == here[-1 - shared]:
            shared += 1
        less, more = here[: len(here) - shared], there[: len(there) - shared]
        if _moved(search, less, more) == tuple(line.rstrip() for line in lines[place : place + len(search)]):
            found[place] = (less, more)
    return found


def _moved(lines: Lines, less: str, more: str) -> Lines | None:
    """Lines with `less` taken from the front of each and `more` set before it; None where one has no `less`."""
    full = [line.rstrip() for line in lines]
    if not all(line.startswith(less) for line in full if line):
        return None
    return tuple(more + line[len(less) :] if line else "" for line in full)
