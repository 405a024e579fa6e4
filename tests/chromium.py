"""Marks of tests that need Chromium, or the pages of MiniWoB++ too; they skip where these are not installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmrl.browser.chromium import program
from llmrl.browser.miniwob.catalogue import find_pages
from llmrl.errors import BrowserError


def _missing(*parts: Callable[[], object]) -> str:
    try:
        for part in parts:
            part()
    except BrowserError as error:
        return str(error)
    return ""


_no_browser, _nothing_to_show = _missing(program), _missing(program, lambda: find_pages(""))
needs_browser = pytest.mark.skipif(bool(_no_browser), reason=_no_browser)
needs_chromium = pytest.mark.skipif(bool(_nothing_to_show), reason=_nothing_to_show)
