"""Reports: the findings of a command as JSON, and measures of a benchmark as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import RecipeError

REWARD = "reward"
"""The measure that is no share: the mean reward of answers, where that is measured."""


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


def measured(measure: str, estimate: Mapping[str, float]) -> tuple[str, str]:
    """The value of a benchmark's measure and its interval as text: a mean reward as numbers, all others in per cent."""
    kind = ".3g" if measure == REWARD else ".1%"
    return f"{estimate['value']:{kind}}", f"{estimate['low']:{kind}} to {estimate['high']:{kind}}"
