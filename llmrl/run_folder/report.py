"""Reports of commands as files of JSON: `--json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import RecipeError


def write_report(found: Mapping[str, Any], path: Path) -> None:
    """Write what was found, in ASCII: texts that a model wrote may be no Unicode.

    Raises:
        RecipeError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be written: {error.strerror}; choose another file for --json") from error
