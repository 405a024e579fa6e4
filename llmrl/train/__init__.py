"""The loop and the trained models. The package can be called: `llmrl.train(recipe)` is `llmrl.api.train`."""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that is a function, too: Python binds the name `llmrl.train` to it once a module of it is imported."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        from llmrl.api import train

        return train(*given, **options)


sys.modules[__name__].__class__ = _Callable
