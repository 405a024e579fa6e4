"""YAML that may be anything: one message, and nothing that is endless, nested deep, or blown up by anchors."""

from __future__ import annotations

import re
from typing import Any

from llmrl.errors import RecipeError

DEPTH = 50
"""Levels of lists and mappings."""
NODES = 100_000
"""Values of a text, those of anchors counted wherever they are used: a thousand times those of the longest recipe."""
DIGITS = 1000
"""Of an integer; Python neither reads nor writes those of more than 4,300."""
_HALF = re.compile("[\ud800-\udfff]")


def parse(text: str, where: str) -> Any:
    """The value of a YAML text, as `yaml.safe_load` gives it.

    Args:
        where: with which the message of an error starts.
    Raises:
        RecipeError: no YAML, nested deeper than `DEPTH`, of more than `NODES` values, or a mapping that has a key
            twice.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measured(node, where, {}, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise RecipeError(_too_deep(where)) from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"{where}: not YAML: {_told(error)}") from None


def _measured(node: Any, where: str, known: dict[int, int], depth: int) -> int:
    """Number of values below a node, those of anchors wherever they are used; `known` are those measured before.

    Raises:
        RecipeError: too many, too deep, or an anchor that holds itself.
    """
    from yaml import MappingNode, ScalarNode

    if id(node) in known:
        if known[id(node)] < 0:
            raise RecipeError(f"{where}{_line(node)}: an anchor that holds itself; write out what is meant")
        return known[id(node)]
    if depth > DEPTH:
        raise RecipeError(_too_deep(where + _line(node)))
    if isinstance(node, ScalarNode):
        if half := _HALF.search(node.value):
            raise RecipeError(f"{where}{_line(node)}: half a character, the lone surrogate \\u{ord(half[0]):04x}")
        if node.tag.endswith(":int") and len(node.value) > DIGITS:
            raise RecipeError(f"{where}{_line(node)}: a number of more than {DIGITS} digits")
        return 1
    known[id(node)] = -1
    if isinstance(node, MappingNode):
        _require_once(node, where)
    inner = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
    total = 1
    for part in inner:
        total += _measured(part, where, known, depth + 1)
        if total > NODES:
            raise RecipeError(f"{where}{_line(node)}: anchors repeat more than {NODES:,} values; write fewer")
    known[id(node)] = total
    return total


def _require_once(node: Any, where: str) -> None:
    """Refuse a mapping that has a key twice, of which YAML readers take the last without a word.

    Raises:
        RecipeError: it has; names both lines.
    """
    from yaml import SafeLoader, ScalarNode

    seen: dict[tuple[str, Any], Any] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag.endswith(":merge"):  # which may come several times
            continue
        text = key.tag.endswith(":str")
        value = key.value if text else SafeLoader("").construct_object(key)  # type: ignore[no-untyped-call]
        first = seen.setdefault((key.tag, value), key)
        if first is not key:
            raise RecipeError(
                f"{where}{_line(key)}: the key {key.value!r} again, which line {first.start_mark.line + 1} has "
                "already; keep one of them"
            )


def _told(error: Exception) -> str:
    """An error of the library in a line, without its picture of the text."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return f"{problem} at line {mark.line + 1}, column {mark.column + 1}"


def _too_deep(where: str) -> str:
    return f"{where}: lists and mappings are nested deeper than {DEPTH} levels"


def _line(node: Any) -> str:
    return f": line {node.start_mark.line + 1}"
