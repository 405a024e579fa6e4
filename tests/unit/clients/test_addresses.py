"""Addresses: a port that is none, one that is taken, a host without address, and the forms of URLs."""

from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.clients.addresses import listening, require_url
from llmrl.errors import EngineError, LlmrlError, RecipeError


@pytest.mark.parametrize("port", [-1, 65536, 99999, 10**30])
def test_numbers_that_are_no_ports(port: int) -> None:
    with pytest.raises(RecipeError, match=rf"^--port {port}: expected 1 to 65535, or 0 for a free one$"):
        listening("127.0.0.1", port)


def test_a_free_port_is_found_and_a_taken_one_named() -> None:
    with listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert port > 0
        with pytest.raises(EngineError, match=rf"^127.0.0.1:{port} cannot be listened on: .*; choose another --port"):
            listening("127.0.0.1", port)
    with listening("localhost", 0) as sock:
        assert sock.family in (socket.AF_INET, socket.AF_INET6)


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "256.256.256.256", "a" * 300, "two words", "http://127.0.0.1"]
)
def test_a_host_without_address_is_named(host: str) -> None:
    with pytest.raises(EngineError, match=r"^--host .*: no address: .*such as 127\.0\.0\.1"):
        listening(host, 0)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(EngineError, match=r"^192\.0\.2\.1:0 cannot be listened on: .*--host"):
        listening("192.0.2.1", 0)


@pytest.mark.parametrize("url", ["http://a/v1", "https://a.b:65535", "http://[::1]:8000/v1", "http://127.0.0.1"])
def test_urls(url: str) -> None:
    require_url(url)


@pytest.mark.parametrize(
    "url",
    ["", "a:8000", "localhost:8000/v1", "ftp://a", "http://", "http://:80", "http://a:port", "http://a:99999", "http://a:0",
     "http://[::1/v1", "http://a b/v1", "http://a/v1\n"],
)  # fmt: skip
def test_texts_that_are_no_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected http://\.\.\. or https://\.\.\., such as http://127"):
        require_url(url)


@pytest.mark.parametrize(
    "command", [["serve", "nothing"], ["serve", "nothing", "--search", "best_of_n:2"], ["serve-reward", "numeric"]]
)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "99999"], "--port 99999: expected 1 to 65535"),
        (["--port", "-1"], "--port -1: expected 1 to 65535"),
        (["--host", "no-such-host.invalid"], "--host no-such-host.invalid: no address"),
    ],
)
def test_every_server_says_so_before_it_loads_anything(command: list[str], options: list[str], said: str) -> None:
    done = CliRunner().invoke(app, [*command, *options])
    assert isinstance(done.exception, LlmrlError), done.output
    assert str(done.exception).startswith(said)
    text = CliRunner().invoke(app, [*command, "--port", "many"])
    assert (text.exit_code, "Invalid value for '--port'" in text.output) == (2, True)
