"""Sections of a recipe that are no plug-ins, by name: the classes of their options."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from llmrl.recipe import PLUGINS
from llmrl.recipe.options import Sections

OPTIONS: dict[str, Any] = {
    each.name: get_type_hints(Sections)[each.name] for each in fields(Sections) if each.name not in PLUGINS
}
