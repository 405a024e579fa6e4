"""Addresses of servers: those that are asked, and those that this machine listens at."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

from llmrl.errors import EngineError, RecipeError


def require_url(
    url: str,
    example: str = "http://127.0.0.1:8000/v1",
    *,
    name: str = "url",
    schemes: Sequence[str] = ("http", "https"),
) -> None:
    """Check the form of a server's address, the option `name`; whether somebody answers there is another matter.

    Raises:
        ValueError: it is none; names it and the example.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is none, or brackets that do not close
        known = False
    if not known or any(character.isspace() for character in url):
        raise ValueError(f"{name} {url!r}: expected {'://... or '.join(schemes)}://..., such as {example}")


def listening(host: str, port: int, backlog: int = 512) -> socket.socket:
    """Open a socket that listens; at a free port for 0.

    Raises:
        RecipeError: `port` is no number of a port.
        EngineError: the host is none of this machine's, or the port is taken or needs rights.
    """
    if not 0 <= port <= 65535:
        raise RecipeError(f"--port {port}: expected 1 to 65535, or 0 for a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise EngineError(
            f"--host {host}: no address: {getattr(error, 'strerror', None) or error}; expected one of this machine, "
            "such as 127.0.0.1, or 0.0.0.0 for all of its networks"
        ) from None
    with ExitStack() as opened:
        try:
            sock = opened.enter_context(socket.socket(family))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
        except OSError as error:
            raise EngineError(
                f"{host}:{port} cannot be listened on: {error.strerror}; choose another --port or --host"
            ) from error
        opened.pop_all()
    return sock
