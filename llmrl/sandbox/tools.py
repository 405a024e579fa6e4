"""System programs, by their paths."""

from __future__ import annotations

import shutil
from functools import cache

from llmrl.errors import SandboxError


@cache
def tool(name: str) -> str:
    """Find the path of a system program.

    Raises:
        SandboxError: it is not installed.
    """
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin")
    if path is None:
        package = {"bwrap": "bubblewrap"}.get(name, "util-linux")
        raise SandboxError(f"{name} is not installed; expected the system package {package}")
    return path
