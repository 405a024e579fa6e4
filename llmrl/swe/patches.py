"""Apply patches to the texts of files, as SWE-bench's harness does, and turn them into edits and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmrl.swe.diffs import FilePatch, Hunk, file_text, parse_patch
from llmrl.swe.edits import Edit, edits_between
from llmrl.swe.places import find_lines, terminated
from llmrl.swe.replace import replaced
from llmrl.swe.tree import ChangeError, Changes, Files, inside

FUZZ = 5  # lines of context that `patch` may leave out: the harness's last try


class HunkPlace(NamedTuple):
    """Lines `start` to `end` of a file, which a hunk changes; so many of its own lines stay as the file has them."""

    start: int
    end: int
    above: int = 0
    below: int = 0


def apply_patch(files: Files, patch: str | Sequence[FilePatch], fuzz: int | None = FUZZ) -> Changes:
    """Apply a patch as SWE-bench's harness does: by the rules of `git apply`, else by those of `patch --fuzz`.

    The harness's try between, `git apply --3way`, needs a repository and is left out.

    Args:
        fuzz: lines of context that the second try may leave out; None for no second try.
    Returns:
        The new text of each file that changed; None where it is deleted.
    Raises:
        ChangeError: `malformed`; `outside`: a path leads out of the tree; `not_found`: no such file; `exists`: a file
            to make is there; `conflict`: a hunk's lines stand nowhere.
    """
    parsed = parse_patch(patch) if isinstance(patch, str) else patch
    try:
        _require_end(patch)
        return applied(files, parsed, None)
    except ChangeError as error:
        if fuzz is None or error.kind not in ("conflict", "malformed"):
            raise
    _require_end(patch, " ")
    return applied(files, parsed, fuzz)


def _require_end(patch: str | Sequence[FilePatch], *allowed: str) -> None:
    """Refuse a text whose last line has no newline, as the tools do; `patch` forgives it a line of context."""
    last = patch[patch.rstrip("\n").rfind("\n") + 1 :] if isinstance(patch, str) else "\n"
    if not last.endswith("\n") and not last.startswith(("\\", *allowed)):
        raise ChangeError("malformed", f"the patch ends in {last[:80]!r}; expected a newline behind its last line")


def patch_between(files: Files, changed: Mapping[str, str | None]) -> str:
    """Write the patch that turns `files` into `changed`, as `git diff` does; "" where nothing changed."""
    return "".join(file_text(path, files.get(path), text) for path, text in changed.items() if text != files.get(path))


def patch_of_edits(files: Files, edits: Sequence[Edit]) -> str:
    """Write search/replace edits of these files as a patch.

    Raises:
        ChangeError: as `replaced` does.
    """
    return patch_between(files, replaced(files, edits))


def edits_of_patch(files: Files, patch: str | Sequence[FilePatch]) -> list[Edit]:
    """Write a patch of these files as search/replace edits.

    Raises:
        ChangeError: as `apply_patch` does.
    """
    return edits_between(files, apply_patch(files, patch))


def applied(files: Files, patches: Sequence[FilePatch], fuzz: int | None) -> Changes:
    """Apply a patch by one rule: that of `git apply` where `fuzz` is None, else that of `patch`."""
    changes: Changes = {}
    for patch in patches:
        if patch.is_binary:
            raise ChangeError("malformed", f"{patch.path}: a change of bytes; expected one of text")
        old, new = (None if path is None else inside(path) for path in (patch.old_path, patch.new_path))
        before = None if old is None else _now(files, changes, old)
        if old is not None and before is None:
            raise ChangeError("not_found", f"{old}: no such file; expected the one that the patch changes")
        if new is not None and new != old and _now(files, changes, new) is not None:
            raise ChangeError("exists", f"{new}: there already; expected no file where the patch makes one")
        text = _patched(patch, before or "", fuzz)
        if new is None and text:
            raise ChangeError("conflict", f"{old}: the patch deletes it and leaves {len(text)} characters of it")
        if old is not None and old != new and not patch.is_copy:
            changes[old] = None
        if new is not None:
            changes[new] = text
    return {path: text for path, text in changes.items() if text != files.get(path)}


def _now(files: Files, changes: Changes, path: str) -> str | None:
    return changes[path] if path in changes else files.get(path)


def _patched(patch: FilePatch, text: str, fuzz: int | None) -> str:
    """The text behind the hunks; `fuzz` None: by the rules of `git apply`."""
    lines = terminated(text)
    places = _git_places(patch, lines) if fuzz is None else _fuzzy_places(patch, lines, fuzz)
    made: list[str] = []
    done = 0
    for place, hunk in sorted(zip(places, patch.hunks, strict=True), key=lambda pair: pair[0][:2]):
        made += [*lines[done : place.start], *hunk.new[place.above : len(hunk.new) - place.below]]
        done = place.end
    made += lines[done:]
    return "".join([line if line.endswith("\n") else f"{line}\n" for line in made[:-1]] + made[-1:])


def _git_places(patch: FilePatch, lines: Sequence[str]) -> list[HunkPlace]:
    """Places of hunks by the rules of `git apply`: all lines of the context must stand there.

    A hunk that begins at the first line must do so, and one without lines behind its changes ends the file.
    """
    places: list[HunkPlace] = []
    for hunk in patch.hunks:
        expected = _expected(hunk)
        at_end = hunk.context[1] == 0
        starts = _starts(lines, hunk.old, hunk.start <= 1, at_end, expected)
        free = (HunkPlace(at, at + len(hunk.old)) for at in starts)
        place = next((place for place in free if not any(_overlap(place, other) for other in places)), None)
        if place is None:
            raise _conflict(patch, hunk, lines, "")
        places.append(place)
    return places


def _fuzzy_places(patch: FilePatch, lines: Sequence[str], fuzz: int) -> list[HunkPlace]:
    """Places of hunks by the rules of GNU `patch`: in order, moved as the one before, with ever less context."""
    places: list[HunkPlace] = []
    moved = 0  # lines that the last hunk stood away from its number
    for hunk in patch.hunks:
        place = None
        for left_out in range(min(fuzz, max(hunk.context)) + 1):
            first = places[-1].end if places else 0
            place = _fuzzy_place(hunk, lines, left_out, moved, first)
            if place is None and not places and _fuzzy_place(hunk.reversed(), lines, left_out, 0, 0):
                raise _conflict(patch, hunk, lines, ": the lines behind the change stand there already")
            if place is not None:
                break
        if place is None:
            raise _conflict(patch, hunk, lines, f" with {fuzz} lines of context left out")
        moved = place.start - place.above - _expected(hunk)
        places.append(place)
    return places


def _fuzzy_place(hunk: Hunk, lines: Sequence[str], left_out: int, moved: int, first: int) -> HunkPlace | None:
    """The best place of a hunk from line `first` on; the longer side of its context is `left_out` lines shorter."""
    above, below = hunk.context
    longest = max(above, below)
    skipped, cut = left_out + above - longest, left_out + below - longest
    at_start, at_end = skipped < 0, cut < 0
    skipped, cut = max(skipped, 0), max(cut, 0)
    wanted = hunk.old[skipped : len(hunk.old) - cut]
    starts = _starts(lines, wanted, at_start, at_end, _expected(hunk) + moved + skipped)
    return next((HunkPlace(at, at + len(wanted), skipped, cut) for at in starts if at - skipped >= first), None)


def _starts(lines: Sequence[str], wanted: Sequence[str], at_start: bool, at_end: bool, expected: int) -> list[int]:
    """Numbers of lines at which the wanted ones stand, the nearest to `expected` first; of two, the one behind it."""
    if not wanted:
        place = 0 if at_start else len(lines) if at_end else min(max(expected, 0), len(lines))
        return [place] if not (at_start and at_end and lines) else []
    starts = [
        start
        for start in find_lines(lines, wanted, overlapping=True)
        if (start == 0 or not at_start) and (start + len(wanted) == len(lines) or not at_end)
    ]
    return sorted(starts, key=lambda start: (abs(start - expected), start < expected))


def _expected(hunk: Hunk) -> int:
    """Number, from 0, of the line at which a hunk begins; one that only adds lines counts the line before it."""
    return max(hunk.start - 1, 0) if hunk.old else hunk.start


def _overlap(one: HunkPlace, other: HunkPlace) -> bool:
    return one.start < other.end and other.start < one.end


def _conflict(patch: FilePatch, hunk: Hunk, lines: Sequence[str], how: str) -> ChangeError:
    number = patch.hunks.index(hunk) + 1
    known = set(lines)
    missing = next((line for line in hunk.old if line not in known), None)
    reason = f"no such line as {missing.strip()[:80]!r}" if missing else "its lines do not stand there in this order"
    where = f"{patch.old_path or patch.path}: hunk {number} of {len(patch.hunks)}, at line {hunk.start}"
    return ChangeError("conflict", f"{where}, does not apply{how}: {reason}")
