"""Unified diffs: read, applied by the rules of git and of GNU patch, and turned into edits and back."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from llmrl.swe.diffs import parse_patch
from llmrl.swe.edits import read_edits, write_edits
from llmrl.swe.patches import applied, apply_patch, edits_of_patch, patch_between, patch_of_edits
from llmrl.swe.replace import replaced
from llmrl.swe.tree import ChangeError
from tests.swe_files import files_before, rows

NUMBERS = "".join(f"{number}\n" for number in range(1, 21))
PATCH = """\
diff --git a/n.txt b/n.txt
--- a/n.txt
+++ b/n.txt
@@ -4,7 +4,7 @@ heading
 4
 5
 6
-7
+seven
 8
 9
 10
"""


def test_a_patch_is_read_with_its_numbers_and_lines() -> None:
    (file,) = parse_patch(f"From: somebody\n\n{PATCH}-- \n2.39\n")
    (hunk,) = file.hunks
    assert (file.old_path, file.new_path, hunk.start, hunk.heading, hunk.context) == (
        "n.txt",
        "n.txt",
        4,
        "heading",
        (3, 3),
    )
    assert hunk.new == ["4\n", "5\n", "6\n", "seven\n", "8\n", "9\n", "10\n"]
    assert file.body == PATCH[PATCH.index("@@") :]


def test_files_are_made_deleted_moved_and_copied() -> None:
    patch = (
        "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x\n"
        "\\ No newline at end of file\n"
        "diff --git a/empty.py b/empty.py\nnew file mode 100644\nindex 0000000..e69de29\n"
        "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "diff --git a/from a.py b/to.py\nsimilarity index 90%\nrename from from a.py\nrename to to.py\n"
        "diff --git a/n.txt b/m.txt\ncopy from n.txt\ncopy to m.txt\n"
        "--- a/n.txt\n+++ b/m.txt\n@@ -1,2 +1,2 @@\n-1\n+one\n 2\n"
        'diff --git "a/\\303\\244 \\"b.py" "b/\\303\\244 \\"b.py"\nnew file mode 100644\n'
    )
    files = {"old.py": "x\n", "from a.py": "y\n", "n.txt": "1\n2\n"}
    assert apply_patch(files, patch) == {
        "new.py": "x",
        "empty.py": "",
        "old.py": None,
        "from a.py": None,
        "to.py": "y\n",
        "m.txt": "one\n2\n",
        'ä "b.py': "",
    }
    assert parse_patch(patch)[3].body == "rename from from a.py to to.py\n"


@pytest.mark.parametrize(
    ("patch", "kind", "words"),
    [
        ("", "malformed", "no file in this patch"),
        ("I would change n.txt.", "malformed", "no file in this patch"),
        (PATCH[PATCH.index("@@") :], "malformed", "line 1 of the patch: a hunk without a file"),
        (PATCH.replace(" 10\n", "x\n"), "malformed", "line 12 of the patch: 1 more old and 1 more new"),
        (PATCH.replace("-4,7", "-4,17"), "malformed", "line 13 of the patch"),
        (PATCH.replace("@@ -4,7", "@@ -4,x"), "malformed", "expected @@ -FIRST,COUNT"),
        (PATCH.replace("a/n.txt", "n.txt"), "malformed", "expected a name with a folder before it"),
        (PATCH.replace("n.txt", "m.txt"), "not_found", "m.txt: no such file"),
        (PATCH.replace("n.txt", "../n.txt"), "outside", "in the tree"),
        (PATCH.replace("a/n.txt", "/etc/passwd"), "outside", "in the tree"),
        (PATCH.replace("--- a/n.txt", "--- /dev/null"), "exists", "n.txt: there already"),
        (PATCH.replace("-7", "-77"), "conflict", "hunk 1 of 1, at line 4, does not apply.*no such line as '77'"),
        ("diff --git a/n.txt b/n.txt\nBinary files a/n.txt and b/n.txt differ\n", "malformed", "of bytes"),
    ],
)
def test_errors_say_where_and_why(patch: str, kind: str, words: str) -> None:
    with pytest.raises(ChangeError, match=words) as caught:
        apply_patch({"n.txt": NUMBERS}, patch)
    assert caught.value.kind == kind


def test_moved_lines_are_found_and_fuzz_leaves_context_out() -> None:
    moved = {"n.txt": "0\n0\n" + NUMBERS}
    assert apply_patch(moved, PATCH, fuzz=None) == {"n.txt": moved["n.txt"].replace("7\n", "seven\n", 1)}
    other = {"n.txt": NUMBERS.replace("4\n5\n", "four\nfive\n", 1)}
    with pytest.raises(ChangeError, match="does not apply: no such line as '4'"):
        apply_patch(other, PATCH, fuzz=None)
    with pytest.raises(ChangeError, match="with 1 lines of context left out"):
        apply_patch(other, PATCH, fuzz=1)
    assert apply_patch(other, PATCH) == {"n.txt": other["n.txt"].replace("7\n", "seven\n", 1)}


def test_blanks_that_were_cut_off_at_the_end_of_a_patch_are_no_fault() -> None:
    files = {"n.txt": "1\n\n\n"}
    patch = "--- a/n.txt\n+++ b/n.txt\n@@ -1,3 +1,3 @@\n-1\n+one\n \n \n"
    assert apply_patch(files, patch.rstrip() + "\n") == apply_patch(files, patch) == {"n.txt": "one\n\n\n"}


def test_a_patch_whose_last_line_has_no_newline_is_refused_as_by_the_tools() -> None:
    with pytest.raises(ChangeError, match="ends in ' 10'"):
        apply_patch({"n.txt": NUMBERS}, PATCH.rstrip(), fuzz=None)
    assert apply_patch({"n.txt": NUMBERS}, PATCH.rstrip()) == apply_patch({"n.txt": NUMBERS}, PATCH)
    patch = "--- a/n.txt\n+++ b/n.txt\n@@ -1,2 +1,3 @@\n 1\n 2\n+x"
    with pytest.raises(ChangeError, match=r"ends in '.x'; expected a newline"):
        apply_patch({"n.txt": "1\n2\n"}, patch)


@pytest.mark.parametrize("step", [15, pytest.param(1, marks=pytest.mark.slow)])
def test_gold_patches_go_through_edits_and_back(shared_data: Path, step: int) -> None:
    """Patches of 300 and 500 instances; in the quick test every fifteenth."""
    seen = set()
    for row in [*rows(shared_data, "lite")[::step], *rows(shared_data, "verified")[::step]]:
        for patch in (row["patch"], row["test_patch"]):
            if not patch or patch in seen:
                continue
            seen.add(patch)
            parsed = parse_patch(patch)
            files = files_before(parsed)
            changes = apply_patch(files, parsed, fuzz=None)
            edits = read_edits(write_edits(edits_of_patch(files, parsed)))
            assert replaced(files, edits) == changes, row["instance_id"]
            again = patch_of_edits(files, edits)
            assert apply_patch(files, again, fuzz=None) == changes, row["instance_id"]
            assert {file.path for file in parse_patch(again)} == {file.path for file in parsed}


@pytest.mark.parametrize("tool", ["git", "patch"])
def test_the_rules_are_those_of_the_tools(tool: str, tmp_path: Path) -> None:
    """Files changed since the patch was made: the same ones apply, and to the same text."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    draws = random.Random(1)
    verdicts = [_agrees(tool, draws, tmp_path / str(number)) for number in range(80)]
    assert 20 < sum(verdicts) < 80  # some apply, some do not


def _agrees(tool: str, draws: random.Random, folder: Path) -> bool:
    lines = [f"{draws.randint(0, 9)}\n" for _ in range(30)]
    new = list(lines)
    for _ in range(draws.randint(1, 2)):
        at = draws.randrange(len(new))
        new[at : at + draws.randint(0, 2)] = [f"new {draws.randint(0, 9)}\n"] * draws.randint(0, 2)
    patch = patch_between({"f": "".join(lines)}, {"f": "".join(new)})
    for _ in range(draws.randint(0, 2)):
        at = draws.randrange(len(lines))
        lines[at : at + draws.randint(0, 2)] = [f"other {draws.randint(0, 9)}\n"] * draws.randint(0, 2)
    folder.mkdir()
    (folder / "f").write_text("".join(lines))
    command = ["git", "apply", "-"] if tool == "git" else ["patch", "--batch", "--forward", "--fuzz=5", "-p1"]
    done = subprocess.run(command, cwd=folder, input=patch, text=True, capture_output=True, timeout=20, check=False)
    theirs = (folder / "f").read_text() if done.returncode == 0 else None
    try:
        ours = _by(tool, "".join(lines), patch) if patch else theirs
    except ChangeError:
        ours = None
    assert ours == theirs, (patch, "".join(lines), done.stdout, done.stderr)
    return theirs is not None


def _by(tool: str, text: str, patch: str) -> str | None:
    return {"f": text, **applied({"f": text}, parse_patch(patch), None if tool == "git" else 5)}["f"]


def test_a_patch_of_a_loop_is_refused() -> None:
    part = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"
    with pytest.raises(ChangeError, match="more than 5000 files"):
        apply_patch({"f": "a\n"}, part * 5001)
