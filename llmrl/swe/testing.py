"""Run the tests of a repair in a workspace, so that nothing which the repair does can forge their results."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from llmrl.errors import DataError, RewardError, SandboxError
from llmrl.recipe.ranges import Seconds
from llmrl.sandbox import container
from llmrl.sandbox.container import ContainerOptions, ContainerWorkspace
from llmrl.sandbox.isolation import Level
from llmrl.sandbox.workspace import LIMITS, PYTEST, RESULTS, Executed, LocalOptions, LocalWorkspace, Workspace
from llmrl.swe import runner
from llmrl.swe.clones import files_of, lay_out
from llmrl.swe.grading import Status
from llmrl.swe.guard import is_guarded
from llmrl.swe.instance import Instance
from llmrl.swe.patches import apply_patch
from llmrl.swe.runner import CANARY
from llmrl.swe.tree import ChangeError, Changes, Files


@dataclass(frozen=True, slots=True)
class TestRun:
    """Results of a run of tests.

    Attributes:
        statuses: by the ids of tests; those that were reported before the end, wherever that came.
        fault: the reason why the run is void, "" for none: then no status counts as passed.
        log: standard output and error, which nobody reads but people.
        cut: a limit ended the run, such as that of time.
    """

    statuses: Mapping[str, Status]
    fault: str = ""
    log: str = ""
    seconds: float = 0.0
    cut: bool = False

    __test__ = False  # no class of tests, whatever pytest thinks of its name


@dataclass(frozen=True, kw_only=True)
class TestBed:
    """Options by which tests are run on this machine."""

    repos: str = ""  # a folder of clones, for instances with `base_commit`: see `llmrl.swe.clones.files_of`
    environment: str | None = None  # a virtual environment for the tests; {repo} and {version} are filled in
    packages: Sequence[str] = PYTEST  # of llmrl's environment, where there is no other
    timeout_s: Seconds = 60.0  # of the tests of a repair
    memory_mb: int = 2048
    min_level: Level = "unshare"  # weaker walls are refused
    level: Level | None = None  # exactly these walls; null: the strongest that work here
    logs: str | None = None  # a folder that keeps the log of each run
    container: str | None = None  # an image with the project in /testbed at its commit, in place of this machine
    container_python: str = "python"  # inside

    __test__ = False

    def __post_init__(self) -> None:
        if self.min_level not in ("unshare", "bubblewrap"):
            raise ValueError(
                f"min_level {self.min_level!r}: tests need a root of their own; expected unshare or bubblewrap"
            )
        _ = self.options().sandbox

    def options(self, instance: Instance | None = None) -> LocalOptions:
        """Options of the workspace for an instance."""
        place = self.environment
        if instance is not None and instance.environment:
            place = instance.environment
        elif instance is not None and place is not None:
            place = self._filled(place, instance)
        elif place is not None and "{" in place:
            place = None
        limits = replace(LIMITS, wall_s=self.timeout_s, cpu_s=self.timeout_s, memory_mb=self.memory_mb)
        return LocalOptions(
            environment=place, packages=tuple(self.packages), limits=limits, min_level=self.min_level, level=self.level
        )

    def ready(self) -> str:
        """Try out the place where tests run, and name it: the level of the walls, or the container engine.

        Raises:
            SandboxError: there is none.
        """
        return self.options().sandbox.in_force() if self.container is None else container.engine()

    def workspace(self, instance: Instance) -> Workspace:
        """A workspace that holds the files of an instance, before any repair; the caller closes it.

        Raises:
            DataError: there is no clone, or it has no such commit.
            SandboxError: no container engine answers, or it does not start the image.
        """
        return self.local_workspace(instance) if self.container is None else self._container(instance)

    def _container(self, instance: Instance) -> ContainerWorkspace:
        """A container of the instance's image; where the instance holds its files itself, they are written there."""
        assert self.container is not None
        limits = replace(LIMITS, wall_s=self.timeout_s, memory_mb=self.memory_mb)
        image = self._filled(self.container, instance)
        made = ContainerWorkspace(ContainerOptions(image=image, limits=limits, python=self.container_python))
        try:
            if not instance.base_commit:
                made.put(instance.files)
            elif made.made:
                raise SandboxError(
                    f"image {image}: no {made.root} there; expected the project at {instance.base_commit}"
                )
        except BaseException:
            made.close()
            raise
        return made

    def _filled(self, template: str, instance: Instance) -> str:
        """A name with `{repo}`, `{version}` and `{instance}` filled in."""
        for word, value in (("repo", instance.repo), ("version", instance.version), ("instance", instance.id)):
            template = template.replace(f"{{{word}}}", value.replace("/", "__"))
        return template

    def local_workspace(self, instance: Instance) -> LocalWorkspace:
        """A folder of this machine: see `workspace`."""
        made = LocalWorkspace(self.options(instance))
        try:
            lay_out(files_of(instance, self.repos), made.folder)
        except BaseException:
            made.close()
            raise
        return made

    def run(self, instance: Instance, changes: Mapping[str, str | None]) -> TestRun:
        """Run the tests of an instance on its files with these changes.

        Args:
            changes: new texts by path, None for a deleted file. Files of tests and those that configure them are put
                back as they should be, whatever the changes say.
        Raises:
            DataError: the instance lacks tests, a clone, a commit; or its test patch does not fit.
            RewardError: the sandbox did not start.
        """
        tests = tests_of(instance, files_of(instance, self.repos))
        return self.run_files(instance, changes, tests)

    def run_files(
        self, instance: Instance, changes: Mapping[str, str | None], tests: Mapping[str, str | None]
    ) -> TestRun:
        """Run these files of tests, which are written over the changes: see `run`."""
        files = files_of(instance, self.repos)
        run = list(tests) or [word.partition("::")[0] for word in instance.arguments]
        kept = {
            path: text
            for path, text in changes.items()
            if path not in tests and path not in run and not is_guarded(path, instance.patch, files, run)
        }
        place = self.workspace(instance)
        try:
            place.put({**_present(files, kept), **_present(files, tests)})
            before = [place.mark(path) for path in run]
            done = run_tests(place, instance, list(tests), self.timeout_s, place.packages)
            if before != [place.mark(path) for path in run]:
                done = replace(done, fault=done.fault or "a file of tests was changed while they ran")
        finally:
            place.close()
        if self.logs is not None:
            _keep(Path(self.logs), instance.id, done.log)
        return done


def tests_of(instance: Instance, files: Files) -> Changes:
    """Files of tests as they should be: those of the test patch and of `test_files`.

    Raises:
        DataError: there are none, or the patch does not fit.
    """
    try:
        patched: Changes = apply_patch(files, instance.test_patch) if instance.test_patch.strip() else {}
    except ChangeError as error:
        raise DataError(f"instance {instance.id}: its test_patch does not fit its commit: {error}") from None
    tests: Changes = {**patched, **instance.test_files}
    if not tests and not instance.arguments:
        raise DataError(f"instance {instance.id}: no tests; expected test_patch, test_files or test_arguments")
    return tests


def run_tests(
    place: Workspace, instance: Instance, tests: Sequence[str], timeout_s: float, packages: Sequence[str] = ()
) -> TestRun:
    """Run tests in a workspace that holds the repair.

    Args:
        tests: files of tests, which are run where the instance names no arguments.
        packages: folders of packages, as programs see them, that the interpreter does not know by itself.
    Raises:
        RewardError: the sandbox did not start.
    """
    key = secrets.token_bytes(32)
    task = {
        "key": key.hex(),
        "runner": instance.runner,
        "arguments": instance.arguments or arguments_of(instance, tests),
        "path": [place.root],
        "packages": list(packages),
    }
    argv = ["python", "-I", "-B", "-c", _script(), RESULTS]
    done = place.exec(argv, json.dumps(task).encode(), timeout_s)
    reports = read_reports(done.results, key)
    if not done.results:  # before anything of the repair ran, as may happen under load; none of it could cut them short
        raise RewardError(f"the tests did not start: {done.outcome.reason}; {done.printed[:300]}")
    return _judged(reports, done)


def arguments_of(instance: Instance, tests: Sequence[str]) -> list[str]:
    """Arguments of the runner: the files of tests, by path or as modules."""
    python = [path for path in tests if path.endswith(".py") and PurePosixPath(path).name != "conftest.py"]
    if instance.runner == "unittest":
        return [path.removesuffix(".py").replace("/", ".") for path in python]
    return python


def read_reports(data: bytes, key: bytes) -> list[Mapping[str, object]]:
    """Reports of the runner, in order, to the first line that it has not signed or that is not the next."""
    reports: list[Mapping[str, object]] = []
    for line in io.BytesIO(data):  # one after the other: a program may have written millions
        body, _, digest = line.removesuffix(b"\n").partition(b"\t")
        if not hmac.compare_digest(digest, hmac.new(key, body, hashlib.sha256).hexdigest().encode()):
            break
        number, report = json.loads(body)
        if number != len(reports):
            break
        reports.append(report)
    return reports


def _judged(reports: Sequence[Mapping[str, object]], done: Executed) -> TestRun:
    """The run that these reports tell of, void where they do not fit together."""
    statuses: dict[str, Status] = {}
    for report in reports:
        if "test" in report:
            test, status = str(report["test"]), report["status"]
            statuses[test] = status  # type: ignore[assignment]
    canary = statuses.pop(CANARY, None)
    end = reports[-1].get("end") if reports else None
    outcome = done.outcome
    if outcome.kind != "exited":
        fault = f"the tests {outcome.reason}"
    elif end is None:
        fault = f"the tests' process ended early, with exit status {outcome.code}"
    elif canary is None and end != 1:
        fault = f"the tests could not be collected: exit status {end}"
    elif canary != "FAILED":
        fault = f"a test of ours that must fail {'passed' if canary == 'PASSED' else 'was not run'}"
    elif not (end == outcome.code == 1):
        fault = f"a test of ours failed, and the exit status is {outcome.code}"
    else:
        fault = ""
    return TestRun(statuses, fault, done.printed, outcome.seconds, outcome.kind not in ("exited", "signal"))


def _present(files: Files, changes: Mapping[str, str | None]) -> Changes:
    """Changes without deletions of what is not there."""
    return {path: text for path, text in changes.items() if text is not None or path in files}


def _keep(folder: Path, name: str, log: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name.replace('/', '__')}.{secrets.token_hex(4)}.log").write_text(
        log, encoding="utf-8", errors="replace"
    )


@cache
def _script() -> str:
    return Path(runner.__file__).read_text(encoding="utf-8")


__all__ = ["TestBed", "TestRun", "run_tests"]
