"""Marks of tests that need Chromium, and the pages of MiniWoB++; they skip where these are not installed."""

from __future__ import annotations

import pytest

from llmrl.browser.chromium import program
from llmrl.browser.miniwob.catalogue import find_pages
from llmrl.errors import BrowserError


def _missing() -> str:
    try:
        program()
        find_pages("")
    except BrowserError as error:
        return str(error)
    return ""


needs_chromium = pytest.mark.skipif(bool(_missing()), reason=_missing())
