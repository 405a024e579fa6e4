"""Classes of Transformers that vLLM changes when it runs an architecture by them, in the process that trains, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import getclosurevars
from typing import Any


def spare_trainer() -> None:
    """Let models that vLLM has not made compute as before, and let others be made.

    For architectures without code of its own vLLM takes Transformers' classes and puts a compiling call into them; an
    instance made before lacks what that call reads, and one made later asks for vLLM's configuration. vLLM's own
    instances have an attribute of their own.
    """
    from transformers import PreTrainedModel

    for cls in _below(PreTrainedModel):
        own = vars(cls)
        if _of_vllm(own.get("__call__")):
            cls.do_not_compile = True  # type: ignore[attr-defined]
        if _of_vllm(own.get("__init__")):
            cls.__init__ = _sparing(own["__init__"])  # type: ignore[method-assign, misc]


def _of_vllm(method: Any) -> bool:
    return str(getattr(method, "__module__", "")).startswith("vllm")


def _sparing(changed: Callable[..., None]) -> Callable[..., None]:
    """An initialiser that is vLLM's while vLLM makes a model, and the class's own at any other time."""
    from vllm.config import get_current_vllm_config_or_none

    own: Callable[..., None] = getclosurevars(changed).nonlocals["old_init"]

    @wraps(own)
    def begun(self: Any, *given: Any, **options: Any) -> None:
        (own if get_current_vllm_config_or_none() is None else changed)(self, *given, **options)

    return begun


def _below(cls: type) -> Iterator[type]:
    below: list[type] = cls.__subclasses__()
    for each in below:
        yield each
        yield from _below(each)
