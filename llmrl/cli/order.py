"""The order of commands in `llmrl --help`: as a user meets them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

ORDER = (
    *("demo", "doctor"),
    *("list", "recipes", "data", "plan"),
    *("train", "sft", "dpo", "kto", "tune"),
    *("view", "show", "replay", "figures"),
    *("eval", "serve", "export", "play"),
    *("audit-reward", "serve-reward", "reward-model", "eval-rm", "adopt-rm"),
    "verify",
)


class InOrder(TyperGroup):
    """A group whose help lists its commands in `ORDER`, any others after them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
