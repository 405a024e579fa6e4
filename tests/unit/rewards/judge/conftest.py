"""The server of a judge."""

from __future__ import annotations

import pytest

from tests.http_server import HttpServer
from tests.unit.rewards.judge.asking import says


@pytest.fixture
def server(server: HttpServer) -> HttpServer:
    """Serves the model `tiny`, whose grade is 5 unless a test says otherwise."""
    server.models = (200, {"data": [{"id": "tiny"}]})
    server.answer = lambda body: says({"reason": "so", "grade": 5})
    return server
