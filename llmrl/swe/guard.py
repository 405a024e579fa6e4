"""Files of a repair that are left out, for they decide how tests are run and what they compare with."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from functools import cache
from pathlib import PurePosixPath

from llmrl.swe.diffs import parse_patch
from llmrl.swe.rows import is_test
from llmrl.swe.tree import ChangeError

CONFIGURED = (
    "conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "pytest.toml",
    ".pytest.toml",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
)
"""Files by which tests are configured: as in the base, unless the reference changes them, too."""
IMPORTED = ("sitecustomize.py", "usercustomize.py")
"""Files that Python imports by itself."""
PLUGINS = (".dist-info", ".egg-info")
"""Folders, or files, by which a package offers plugins to test frameworks."""


def is_guarded(path: str, patch: str, files: Container[str], tests: Iterable[str]) -> bool:
    """Tell whether a change of this file is left out, as those of tests are that the reference does not make.

    Args:
        patch: the reference.
        files: paths of the base.
        tests: files of tests that are run.
    """
    parts = PurePosixPath(path).parts
    if parts[-1] in IMPORTED or path.endswith(".pth") or any(part.endswith(PLUGINS) for part in parts):
        return True
    if path in reference_paths(patch):
        return False
    if parts[-1] in CONFIGURED or is_test(path):
        return True
    if path in files:
        return False
    return _module(parts[0]) in sys.stdlib_module_names or any(_shadows(path, test) for test in tests)


@cache
def reference_paths(patch: str) -> frozenset[str]:
    """Paths that a patch changes; none where it cannot be read."""
    try:
        return frozenset(part.path for part in parse_patch(patch)) if patch.strip() else frozenset()
    except ChangeError:
        return frozenset()


def _shadows(path: str, test: str) -> bool:
    """Tell whether Python may import a new file in place of a file of tests, or as a folder above it."""
    for part, other in zip(PurePosixPath(path).parts, PurePosixPath(test).parts, strict=False):
        if part != other:
            return _module(part) in (_module(other), "__init__")
    return False


def _module(part: str) -> str:
    """Name of the module that a file or folder may be; `a.cpython-312-x86_64-linux-gnu.so` is `a`."""
    return part.partition(".")[0]
