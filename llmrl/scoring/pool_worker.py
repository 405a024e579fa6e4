"""The worker's end of `llmrl.scoring.process_pool`: the main function of its processes."""

from __future__ import annotations

import contextlib
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from llmrl.scoring.raised import raised

KEPT = 16  # functions a worker holds loaded


def serve(fd: int, memory_mb: int) -> None:
    """The worker's main function: answer on the connection `fd` until the other end is closed."""
    import resource

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # for the parent, which then closes this one
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    connection = Connection(fd)
    functions: dict[bytes, Callable[..., Any]] = {}
    _reply(connection, ("value", None, ""))
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            return
        try:
            if message[0] == "load":
                _load(functions, message[1])
                answer = None
            else:
                # if the parent is gone nobody kills an endless item: the kernel does, whoever holds the interpreter
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, message[3] + 5.0)
                answer = functions[message[1]](*pickle.loads(message[2]))
        except Exception as error:
            _reply(connection, ("raised", None, raised(error)))
        else:
            _reply(connection, ("value", answer, ""))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def _load(functions: dict[bytes, Callable[..., Any]], pickled: bytes) -> None:
    function = pickle.loads(pickled)
    if hasattr(function, "warm_up"):
        function.warm_up()
    functions[pickled] = function
    if len(functions) > KEPT:
        del functions[next(iter(functions))]


def _reply(connection: Connection, answer: tuple[Any, Any, str]) -> None:
    try:
        message = pickle.dumps(answer)
    except Exception as error:
        message = pickle.dumps(("raised", None, f"returned what cannot be pickled: {error}"))
    with contextlib.suppress(BrokenPipeError):  # the parent closed; the next read ends this process
        connection.send_bytes(message)
