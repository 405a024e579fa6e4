"""Make rows of repairs from a repository, or from a file in SWE-bench's form, by the filters of SWE-RL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.datafiles.rows import LeftOutError, Row, file_rows
from llmrl.datagen.ledger import beside, put
from llmrl.datagen.swe.context import ContextFiles
from llmrl.datagen.swe.issues import Issue, Issues, describes_bug, is_bot, issue_of_message
from llmrl.datagen.swe.repository import ChangedFile, MergedChange, Repository, texts
from llmrl.errors import DataError
from llmrl.swe.diffs import parse_patch
from llmrl.swe.patches import apply_patch, patch_between
from llmrl.swe.rows import CODE, SweRow, changed_lines, fingerprint, is_code, read_patch, split_tests
from llmrl.swe.tree import ChangeError, Changes

BENCHMARK = frozenset(
    [
        "astropy/astropy",
        "django/django",
        "matplotlib/matplotlib",
        "mwaskom/seaborn",
        "pallets/flask",
        "psf/requests",
        "pydata/xarray",
        "pylint-dev/pylint",
        "pytest-dev/pytest",
        "scikit-learn/scikit-learn",
        "sphinx-doc/sphinx",
        "sympy/sympy",
    ]
)
"""Repositories of SWE-bench; `--keep-benchmark` keeps them, to make rows to test with."""


@dataclass(frozen=True)
class Curation:
    """Filters of changes, and what is shown of a repository.

    Source: Wei et al. 2025 (arXiv 2502.18449), section 2.1; sizes and the choice of files that stay are our own.
    """

    max_files: int = 5  # that a change edits, tests aside
    max_lines: int = 300  # taken away or added, tests aside
    max_tokens: int = 12_000  # of the issue and all files; a token is taken for three characters
    context_files: int = 3  # relevant ones that stay as they are, as far as tokens allow
    endings: Sequence[str] = CODE  # of files of code
    bugs_only: bool = True  # issues that describe a fault
    keep_benchmark: bool = False  # repositories and commits of SWE-bench, too

    def __post_init__(self) -> None:
        if min(self.max_files, self.max_lines, self.max_tokens) < 1 or self.context_files < 0:
            raise ValueError("expected max_files, max_lines and max_tokens of at least 1, context_files of at least 0")


@dataclass(frozen=True)
class Evaluated:
    """Commits, changes and repositories to test with, which must not be trained on."""

    commits: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()  # fingerprints
    repos: frozenset[str] = BENCHMARK

    def has_repo(self, name: str) -> bool:
        """Tell if a repository is among these; by its name alone where its owner is not known."""
        known = self.repos if "/" in name else {repo.rpartition("/")[2] for repo in self.repos}
        return name.lower() in known


@dataclass
class CurationReport:
    """Rows that were made, and the reasons why other changes gave none."""

    rows: list[SweRow] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def statistics(self) -> dict[str, Any]:
        """Counts and sizes, for people and for JSON."""
        sizes = sorted(sum(map(len, row.files.values())) for row in self.rows)
        edited = Counter(len(row.edited_paths) for row in self.rows)
        return {
            "rows": len(self.rows),
            "repositories": len({row.repo for row in self.rows}),
            "left_out": dict(self.left_out.most_common()),
            "edited_files": {str(count): edited[count] for count in sorted(edited)},
            "files_shown": sum(len(row.files) for row in self.rows) / max(len(self.rows), 1),
            "with_tests": sum(bool(row.test_patch) for row in self.rows),
            "characters": {name: sizes[int(at * (len(sizes) - 1))] for name, at in QUANTILES} if sizes else {},
        }


QUANTILES = (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("max", 1.0))


def write(
    source: Path,
    out: Path,
    options: Curation,
    *,
    issues: Path | None = None,
    clones: Path | None = None,
    against: Sequence[Path] = (),
    repo: str | None = None,
    license: str = "",
) -> dict[str, Any]:
    """Write the rows, and their statistics beside them (`rows.statistics.json`).

    Args:
        source: a clone, or a .jsonl file in SWE-bench's form.
        issues: a file of issues and pull requests of GitHub's API; without one, messages of commits are the issues.
        clones: for a file: a folder of clones, `owner__name` or `name`.
        against: files in SWE-bench's form that must not be trained on.
    Raises:
        DataError: the source cannot be read, or nothing is left.
    """
    evaluated = read_evaluated(against, frozenset() if options.keep_benchmark else BENCHMARK)
    if source.is_dir():
        with Repository(source) as repository:
            name = repo or repository.origin()
            made = of_repository(repository, Issues(issues), options, name, license)
            report = curated(made, evaluated)
    else:
        report = curated(of_instances(file_rows(source), clones, options), evaluated)
    statistics = report.statistics()
    if not report.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in statistics["left_out"].items())
        raise DataError(f"{source}: no row is left of its changes ({reasons or 'there are none'})")
    put(out, [row.as_line() for row in report.rows])
    put(beside(out, "statistics.json"), [statistics])
    return statistics


def read_evaluated(paths: Sequence[Path], known: Collection[str] = BENCHMARK) -> Evaluated:
    """Read what must not be trained on: repositories, base commits and changes of files in SWE-bench's form.

    Args:
        known: repositories beside those of the files.
    Raises:
        DataError: a file cannot be read, or a row lacks its repository or its patch.
    """
    commits: set[str] = set()
    changes: set[str] = set()
    repos = set(known)
    for path in paths:
        for row in file_rows(path):
            repos.add(row.text("repo").lower())
            commits |= {
                str(row.values[key]) for key in ("base_commit", "environment_setup_commit") if row.values.get(key)
            }
            read_patch(row.text("patch"), row.where)
            changes.add(fingerprint(row.text("patch")))
    return Evaluated(frozenset(commits), frozenset(changes), frozenset(repos))


def curated(made: Iterable[SweRow | str], evaluated: Evaluated) -> CurationReport:
    """Keep each change once, and none that is tested with; a text instead of a row is the reason why there is none."""
    report, seen = CurationReport(), set()
    for row in made:
        if isinstance(row, str):
            report.left_out[row] += 1
            continue
        mark = fingerprint(row.patch)
        commits = {row.base_commit, str(row.extra.get("commit", ""))}
        if evaluated.has_repo(row.repo) or mark in evaluated.changes or commits & evaluated.commits:
            report.left_out["of a benchmark"] += 1
        elif (row.repo, mark) in seen:
            report.left_out["the same change twice"] += 1
        else:
            seen.add((row.repo, mark))
            report.rows.append(row)
    return report


def of_repository(
    repository: Repository, issues: Issues, options: Curation, repo: str, license: str = ""
) -> Iterator[SweRow | str]:
    """Rows of the changes of a clone's main line, the oldest first."""
    context = ContextFiles(repository, options.endings)
    for change in repository.changes():
        try:
            issue = _issue_of(change, issues, options)
            files = repository.changed_files(change.base, change.commit)
            row = _row(context, files, options, repo, change.base, issue)
        except LeftOutError as reason:
            yield str(reason)
            continue
        extra = {"commit": change.commit, **({"issue_number": issue.number} if issue.number else {})}
        yield SweRow(
            id=f"{repo.replace('/', '__')}-{change.commit[:12]}",
            merged_at=change.merged_at,
            license=license,
            extra=extra,
            **row,
        )


def of_instances(rows: Iterable[Row], clones: Path | None, options: Curation) -> Iterator[SweRow | str]:
    """Rows of instances in SWE-bench's form, with the files of the clones."""
    opened: dict[Path, ContextFiles] = {}
    with ExitStack() as stack:
        for row in rows:
            folder = next((place for place in _places(clones, row.text("repo")) if place.is_dir()), None)
            if folder is None:
                yield "no clone of its repository"
                continue
            if folder not in opened:
                opened[folder] = ContextFiles(stack.enter_context(Repository(folder)), options.endings)
            try:
                yield _of_instance(row, opened[folder], options)
            except LeftOutError as reason:
                yield str(reason)


def _places(clones: Path | None, repo: str) -> list[Path]:
    names = (repo.replace("/", "__"), repo, repo.rpartition("/")[2])
    return [] if clones is None else [clones / f"{name}{end}" for name in names for end in ("", ".git")]


def _of_instance(row: Row, context: ContextFiles, options: Curation) -> SweRow:
    repository = context.repository
    base = row.text("base_commit")
    if not repository.has_commit(base):
        raise LeftOutError("its commit is not in the clone")
    title, _, body = row.text("problem_statement").partition("\n")
    blobs = repository.blobs(base)
    patch, tests = row.text("patch"), str(row.values.get("test_patch") or "")
    old: dict[str, str] = {}
    try:
        for path in (path for file in parse_patch(patch) for path in (file.old_path, file.new_path) if path in blobs):
            old[str(path)] = repository.text(blobs[str(path)]) or ""
        changed = apply_patch(old, patch)
    except ChangeError as error:
        raise LeftOutError(f"its patch does not apply ({error.kind})") from error
    _require_small(changed, old, options)
    shown = _shown(context, blobs, old, Issue(0, title, body), options)
    names = ("repo", "base_commit", "patch", "test_patch", "problem_statement", "instance_id", "created_at")
    return SweRow(
        id=row.text("instance_id"),
        repo=row.text("repo"),
        base_commit=base,
        issue_title=title,
        issue_body=body,
        files=shown,
        oracle_new={path: text or "" for path, text in changed.items()},
        patch=patch,
        edited_paths=list(changed),
        test_patch=tests,
        merged_at=str(row.values.get("created_at") or ""),
        extra={name: value for name, value in row.values.items() if name not in names},
    )


def _issue_of(change: MergedChange, issues: Issues, options: Curation) -> Issue:
    """The issue that a change resolves.

    Raises:
        LeftOutError: a program made it, it resolves none, or none that describes a fault.
    """
    pull = issues.pull_of(change.commit, change.message)
    if any(map(is_bot, (change.author, change.email.partition("@")[0], pull.author if pull else ""))):
        raise LeftOutError("by a bot")
    linked = list(issues.of(change.commit, change.message)) if issues.by_number else [issue_of_message(change.message)]
    if not linked or not linked[0].title:
        raise LeftOutError("no issue")
    bugs = [issue for issue in linked if describes_bug(issue)]
    if options.bugs_only and not bugs:
        raise LeftOutError("the issue describes no fault")
    return (bugs or linked)[0]


def _row(
    context: ContextFiles,
    files: list[ChangedFile],
    options: Curation,
    repo: str,
    base: str,
    issue: Issue,
) -> Mapping[str, Any]:
    """The columns of a change that its files decide."""
    if not any(is_code(file.path, options.endings) for file in files):
        raise LeftOutError("no code but tests" if files else "no file")
    sides = texts(context.repository, files)
    if sides is None:
        raise LeftOutError("files that are no text")
    old, changed = sides
    patch, test_patch = split_tests(old, changed)
    wanted = {patch.path for patch in parse_patch(patch)}
    source = {path: text for path, text in changed.items() if path in wanted}
    before = {path: text for path, text in old.items() if path in wanted}
    _require_small(source, before, options)
    return {
        "repo": repo,
        "base_commit": base,
        "issue_title": issue.title,
        "issue_body": issue.body,
        "files": _shown(context, context.repository.blobs(base), before, issue, options),
        "oracle_new": {path: text or "" for path, text in source.items()},
        "patch": patch,
        "edited_paths": list(source),
        "test_patch": test_patch,
    }


def _require_small(changed: Changes, old: Mapping[str, str], options: Curation) -> None:
    if len(changed) > options.max_files:
        raise LeftOutError(f"more than {options.max_files} files")
    patch = patch_between(old, changed)
    if not patch:
        raise LeftOutError("nothing changed")
    if changed_lines(parse_patch(patch)) > options.max_lines:
        raise LeftOutError(f"more than {options.max_lines} lines")


def _shown(
    context: ContextFiles,
    blobs: Mapping[str, str],
    old: Mapping[str, str],
    issue: Issue,
    options: Curation,
) -> dict[str, str]:
    """The edited files and relevant ones, as many as fit, in the order of their paths.

    Raises:
        LeftOutError: the edited ones alone are too long.
    """
    room = options.max_tokens * 3 - len(issue.title) - len(issue.body) - sum(map(len, old.values()))
    if room < 0:
        raise LeftOutError(f"more than {options.max_tokens} tokens")
    shown = dict(old)
    for path in context.ranked(blobs, f"{issue.title}\n{issue.body}", list(old)) if options.context_files else ():
        text = context.repository.text(blobs[path])
        if len(shown) - len(old) == options.context_files:
            break
        if text and len(text) <= room:
            shown[path] = text
            room -= len(text)
    return dict(sorted(shown.items()))
