"""Rows of repairs from a repository: what is kept, what is left out and why, and what a row holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.datafiles.rows import file_rows
from llmrl.datagen.swe.context import ContextFiles
from llmrl.datagen.swe.curate import Curation, write
from llmrl.datagen.swe.issues import Issue, Issues, describes_bug, is_bot, issue_of_message
from llmrl.datagen.swe.repository import Repository
from llmrl.errors import DataError
from llmrl.swe.edits import edits_between, write_edits
from llmrl.swe.patches import apply_patch
from llmrl.swe.prompt import messages
from llmrl.swe.rows import SweRow, fingerprint, is_code, is_test, read_row
from tests.builders import some
from tests.swe_repository import OPERATIONS, build, module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("swe"))


@pytest.fixture(scope="module")
def rows(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[SweRow]:
    out = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write(made[0], out, Curation(), issues=made[1], repo="ada/calc", license="MIT")
    return read(out)


def read(path: Path) -> list[SweRow]:
    return [read_row(row.values, row.where) for row in file_rows(path)]


def test_the_repository_has_thirty_commits(made: tuple[Path, Path]) -> None:
    counted = subprocess.run(
        ["git", "-C", str(made[0]), "rev-list", "--count", "HEAD"], capture_output=True, check=True, timeout=10
    )
    assert int(counted.stdout) == 30


def test_repairs_are_kept_and_everything_else_left_out_with_its_reason(made: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    statistics = write(made[0], out, Curation(), issues=made[1], repo="ada/calc")
    assert statistics["rows"] == 9
    assert statistics["left_out"] == {
        "no issue": 8,  # six modules and two changes without one
        "no code but tests": 2,
        "by a bot": 1,
        "more than 300 lines": 1,
        "more than 5 files": 1,
        "files that are no text": 1,
        "the issue describes no fault": 1,
        "the same change twice": 1,
    }
    assert statistics["edited_files"] == {"1": 8, "2": 1}
    assert statistics["with_tests"] == 8
    assert json.loads((tmp_path / "rows.statistics.json").read_text()) == statistics


def test_a_row_has_the_issue_the_files_before_and_the_change_without_its_tests(rows: list[SweRow]) -> None:
    for row, name in zip(rows[:8], OPERATIONS, strict=True):
        assert row.issue_title == f"{name} gives a wrong result"
        assert row.files[f"calc/{name}.py"] == module(name, wrong=True)
        assert dict(row.oracle_new) == {f"calc/{name}.py": module(name, wrong=False)}
        assert apply_patch(row.files, row.patch) == row.oracle_new
        assert list(apply_patch({}, row.test_patch)) == [f"tests/test_{name}.py"]
        assert (row.repo, row.license, row.merged_at[:10]) == ("ada/calc", "MIT", "2024-01-01")
    moved = rows[8]
    assert dict(moved.oracle_new) == {"calc/part1.py": "", "calc/part9.py": "x = 1\n"}
    assert "calc/part9.py" not in moved.files  # it is made


def test_relevant_files_that_stay_are_shown_in_the_order_of_paths(rows: list[SweRow]) -> None:
    for row in some(rows):
        assert len(row.files) == 4
        assert list(row.files) == sorted(row.files)
        assert not any(is_test(path) for path in row.files)


def test_the_most_relevant_files_come_first(tmp_path: Path) -> None:
    texts = {
        "a/edited.py": "from a.used import thing\n",
        "a/used.py": "value = 3\n",
        "b/parser.py": "def parse_header(text):\n    raise HeaderError(text)\n",
        "b/named.py": "x = 1\n",
        "b/other.py": "y = 1\n",
        "tests/test_parser.py": "parse_header HeaderError\n",
        "b/notes.txt": "parse_header HeaderError\n",
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    git = ["git", "-C", str(tmp_path), "-c", "user.email=a@example.org", "-c", "user.name=Ada"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        subprocess.run([*git, *command], check=True, timeout=20)
    with Repository(tmp_path) as repository:
        ranked = ContextFiles(repository, (".py",)).ranked(
            repository.blobs("HEAD"), "parse_header raises HeaderError in b.named", ["a/edited.py"]
        )
    assert ranked == ["b/named.py", "b/parser.py", "a/used.py", "b/other.py"]


def test_without_issues_the_messages_are_the_issues(made: tuple[Path, Path], tmp_path: Path) -> None:
    statistics = write(made[0], tmp_path / "rows.jsonl", Curation(context_files=0, bugs_only=False), repo="ada/calc")
    rows = read(tmp_path / "rows.jsonl")
    assert statistics["left_out"]["by a bot"] == 1
    assert "Mend last" in [row.issue_title for row in rows]
    assert all(set(row.files) <= set(row.edited_paths) for row in rows)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (Curation(max_tokens=5), "more than 5 tokens"),
        (Curation(max_lines=1), "more than 1 lines"),
        (Curation(endings=(".rs",)), "no code but tests"),
    ],
)
def test_nothing_left_is_an_error_that_counts_the_reasons(
    made: tuple[Path, Path], tmp_path: Path, options: Curation, reason: str
) -> None:
    with pytest.raises(DataError, match=f"no row is left of its changes .*[0-9]+ {reason}"):
        write(made[0], tmp_path / "rows.jsonl", options, issues=made[1])


def instances(rows: list[SweRow], path: Path) -> Path:
    """The rows in SWE-bench's form."""
    lines = [
        {
            "instance_id": row.id,
            "repo": row.repo,
            "base_commit": row.base_commit,
            "patch": row.patch,
            "test_patch": row.test_patch,
            "problem_statement": f"{row.issue_title}\n{row.issue_body}",
            "FAIL_TO_PASS": ["tests/test_x.py::test_x"],
        }
        for row in rows
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_what_is_tested_with_is_not_trained_on(made: tuple[Path, Path], rows: list[SweRow], tmp_path: Path) -> None:
    """By repository, by commit, and by the change where the commit is another."""
    out = tmp_path / "rows.jsonl"
    for tested in ({"base_commit": rows[0].base_commit}, {"patch": rows[0].patch}, {"repo": "Ada/Calc"}):
        line = {"repo": "x/y", "base_commit": "0", "patch": rows[8].patch + "\n", **tested}
        (tmp_path / "tested.jsonl").write_text(json.dumps(line))
        if "repo" in tested:
            with pytest.raises(DataError, match="10 of a benchmark"):
                write(made[0], out, Curation(), issues=made[1], repo="ada/calc", against=[tmp_path / "tested.jsonl"])
            continue
        write(made[0], out, Curation(), issues=made[1], repo="ada/calc", against=[tmp_path / "tested.jsonl"])
        expected = rows[1:8] if "base_commit" in tested else rows[1:]
        assert [row.id for row in read(out)] == [row.id for row in expected]
    with pytest.raises(DataError, match="of a benchmark"):
        write(made[0], out, Curation(), issues=made[1], repo="pallets/flask")
    with pytest.raises(DataError, match="of a benchmark"):  # a folder or a remote on this machine tells no owner
        write(made[0], out, Curation(), issues=made[1], repo="flask")
    write(made[0], out, Curation(keep_benchmark=True), issues=made[1], repo="pallets/flask")
    assert len(read(out)) == 9
    against = [tmp_path / "tested.jsonl"]
    against[0].write_text(json.dumps({"repo": "x/y", "base_commit": rows[0].base_commit, "patch": rows[0].patch}))
    write(made[0], out, Curation(keep_benchmark=True), issues=made[1], repo="pallets/flask", against=against)
    assert len(read(out)) == 8, "what is named is left out, whatever is kept"
    against[0].write_text(json.dumps({"repo": "x/y", "base_commit": "0", "patch": "none"}))
    with pytest.raises(DataError, match=r"tested.jsonl:1: column 'patch': no file in this patch"):
        write(made[0], out, Curation(), issues=made[1], repo="ada/calc", against=against)


def test_a_remote_on_this_machine_tells_no_owner(made: tuple[Path, Path], tmp_path: Path) -> None:
    for remote, name in (("/srv/mirrors/flask.git", "flask"), ("https://host/ada/calc.git", "ada/calc")):
        subprocess.run(["git", "clone", "-q", "--bare", made[0], tmp_path / name[-4:]], check=True)
        subprocess.run(["git", "-C", tmp_path / name[-4:], "remote", "set-url", "origin", remote], check=True)
        assert Repository(tmp_path / name[-4:]).origin() == name


def test_instances_in_the_form_of_swe_bench(made: tuple[Path, Path], rows: list[SweRow], tmp_path: Path) -> None:
    source, out = instances(rows, tmp_path / "instances.jsonl"), tmp_path / "rows.jsonl"
    statistics = write(source, out, Curation(), clones=made[0].parent)
    assert statistics["rows"] == 9
    for row, again in zip(rows, read(out), strict=True):
        assert (again.id, again.issue_title, again.issue_body) == (row.id, row.issue_title, row.issue_body)
        assert (again.files, again.edited_paths, again.patch) == (row.files, row.edited_paths, row.patch)
        assert (again.oracle_new, again.test_patch) == (row.oracle_new, row.test_patch)
    assert json.loads(out.read_text().split("\n")[0])["FAIL_TO_PASS"] == ["tests/test_x.py::test_x"]
    broken = tmp_path / "broken.jsonl"
    for change, reason in (({"base_commit": "a b"}, "its commit is not in"), ({"patch": "x"}, "its patch does not")):
        broken.write_text(json.dumps({**json.loads(source.read_text().split("\n")[0]), **change}))
        with pytest.raises(DataError, match=reason):
            write(broken, out, Curation(), clones=made[0].parent)
    with pytest.raises(DataError, match="9 no clone of its repository"):
        write(source, out, Curation())


def test_the_dataset_asks_in_the_form_of_swe_rl_and_the_reward_pays_the_reference(
    rows: list[SweRow], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row.as_line()) for row in rows))
    problems = list(plugins.build("data", {"name": "swe", "path": str(path)}).problems())
    reward = plugins.build("reward", "swe_similarity")
    for problem, row in zip(problems[:8], rows, strict=False):
        system, user = problem.messages
        assert "<think>" in system["content"]
        assert f"### {row.edited_paths[0]}\n{row.files[row.edited_paths[0]]}" in user["content"]
        assert row.issue_title in user["content"]
        blocks = write_edits(edits_between(row.files, row.oracle_new))
        answer = f"<think>so</think>\n<solution>\n{blocks}</solution>"
        assert reward(problem, answer).value == 1.0
    (only,) = messages("a {files}", "b", {"x.py": "{issue} {"}, system=False)
    assert only["content"].count("{issue} {") == only["content"].count("a {files}") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {}}, "calc/add.py is edited and not among the files"),
        ({"files": {"a": 1}}, "'files': expected an object from paths to text"),
        ({"issue_title": None}, "'issue_title': expected text, found NoneType"),
        ({"test_patch": None}, "'test_patch': expected text, found NoneType"),
        ({"edited_paths": None}, "'edited_paths': expected a list of paths"),
        ({"patch": "none"}, "column 'patch': no file in this patch"),
    ],
)
def test_a_broken_row_is_named(rows: list[SweRow], change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=f"here:1: .*{words}"):
        read_row({**rows[0].as_line(), **change}, "here:1")


def test_small_judgements() -> None:
    assert [is_bot(name) for name in ("dependabot[bot]", "pre-commit-ci", "ci-bot", "Abbott", "Ada")] == [True] * 3 + [
        False
    ] * 2
    assert describes_bug(Issue(1, "x", "", labels=["kind/bug"]))
    assert not describes_bug(Issue(1, "Debugging guide", "more prefixes"))
    issue = issue_of_message("Merge pull request #4 from a/b\n\nMend x (#5)\n\nIt broke.\nSigned-off-by: Ada")
    assert (issue.title, issue.body) == ("Mend x", "It broke.")
    assert [is_test(path) for path in ("a/tests/b.py", "test_a.py", "a/conftest.py", "a_test.go", "latest/a.py")] == [
        *[True] * 4,
        False,
    ]
    assert is_code("a/b.py")
    assert not is_code("tests/b.py")
    patch = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert fingerprint(patch) == fingerprint(patch.replace("@@ -1,2 +1,2 @@\n a\n", "@@ -9,2 +9,2 @@\n z\n"))
    assert fingerprint(patch) != fingerprint(patch.replace("+c", "+d"))
    slid = "--- a/x\n+++ b/x\n@@ -1,2 +1,4 @@\n a\n"
    assert fingerprint(slid + "+b\n+a\n b\n") == fingerprint(slid.replace(" a\n", "+a\n+b\n a\n") + " b\n")
    assert fingerprint(slid + "+b\n+a\n-b\n+b\n") == fingerprint(slid + "+b\n+a\n b\n")
    moved = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-a\n b\n+a\n"
    assert fingerprint(moved) != fingerprint(moved.replace("a\n", "c\n"))


@pytest.mark.parametrize(("labels", "words"), [(5, "labels: expected a list, found int"), ([{"name": None}], "")])
def test_labels_of_issues(labels: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "issues.json"
    path.write_text(json.dumps([{"number": 1, "title": "bug", "labels": labels, "user": {"login": None}}]))
    if not words:
        assert Issues(path).by_number[1].labels == [""]
        return
    with pytest.raises(DataError, match=f"issues.json.*{words}"):
        Issues(path)


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"git rev-parse: .*expected a local clone"):
        Repository(tmp_path)
