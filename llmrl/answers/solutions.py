"""Names of listed values: `a = 4, -8` names both, and `x = 1, y = 4; x = 2, y = 3` are two solutions."""

from __future__ import annotations

from collections.abc import Sequence

from llmrl.answers.forms import NAME, Items, Relation, Value


def solutions(items: Sequence[Value]) -> tuple[Value, ...]:
    """Give listed values their names, and put those together that are one solution of several."""
    return _grouped([_by_name(item, len(items)) for item in _named(items)])


def by_name(value: Value) -> Value:
    """Rewrite `(x, y) = (1, 2)` as `x = 1, y = 2`."""
    if not isinstance(value, Relation) or value.signs != ("=",):
        return value
    names, values = value.sides
    if not isinstance(names, Items) or not isinstance(values, Items) or len(names.items) != len(values.items):
        return value
    texts = [part.strip() for part in value.texts[0].strip(" ()").split(",")]
    if len(texts) != len(names.items) or not all(NAME.fullmatch(text) for text in texts):
        return value
    triples = zip(names.items, values.items, texts, strict=True)
    return Items(tuple(Relation((name, item), ("=",), (text, "")) for name, item, text in triples))


def _by_name(value: Value, count: int) -> Value:
    """The same for one of several solutions, which stays together."""
    spread = by_name(value)
    return Items(spread.items, "(", ")") if isinstance(spread, Items) and spread is not value and count > 1 else spread


def _named(items: Sequence[Value]) -> list[Value]:
    """Give each value without a name that of the one before it, where they are of a kind."""
    named: list[Value] = []
    giver: Relation | None = None
    for item in items:
        if isinstance(item, Relation):
            giver = item if item.signs == ("=",) and (item.name or isinstance(item.sides[0], Items)) else None
        elif giver is not None and _kind(item) == _kind(giver.sides[1]):
            item = Relation((giver.sides[0], item), ("=",), (giver.texts[0], ""))
        else:
            giver = None
        named.append(item)
    return named


def _kind(value: Value) -> tuple[str, int]:
    return type(value).__name__, len(value.items) if isinstance(value, Items) else 0


def _grouped(items: list[Value]) -> tuple[Value, ...]:
    """Put `x = 1, y = 4, x = 2, y = 3` into two groups, where the same names come again."""
    names = [item.name if isinstance(item, Relation) else "" for item in items]
    size = len(set(names))
    chunks = [slice(at, at + size) for at in range(0, len(items), max(size, 1))]
    if size < 2 or len(chunks) < 2 or "" in names or any(set(names[chunk]) != set(names) for chunk in chunks):
        return tuple(items)
    return tuple(Items(tuple(items[chunk]), "(", ")") for chunk in chunks)
