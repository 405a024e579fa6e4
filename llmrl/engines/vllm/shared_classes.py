"""Classes of Transformers that vLLM changes when it runs an architecture by them, in the process that trains, too."""

from __future__ import annotations

from collections.abc import Iterator


def spare_trainer() -> None:
    """Let models that vLLM has not made compute as before.

    For architectures without code of its own vLLM takes Transformers' classes and puts a compiling call into them; an
    instance made before lacks what that call reads. vLLM's instances have an attribute of their own.
    """
    from transformers import PreTrainedModel

    for cls in _below(PreTrainedModel):
        if getattr(vars(cls).get("__call__"), "__module__", "").startswith("vllm"):
            cls.do_not_compile = True  # type: ignore[attr-defined]


def _below(cls: type) -> Iterator[type]:
    below: list[type] = cls.__subclasses__()
    for each in below:
        yield each
        yield from _below(each)
