"""Texts that other people's templates make, in a process of its own with bounded memory, time and length.

A template is a program: a dozen words of it double a string forty times. The process is one for all templates of this
one; it is started at the first, ended with this one, and replaced when a limit has ended it.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from llmrl.errors import DataError, EngineError

MEMORY_MB = 512
SECONDS = 20  # of the processor, for one call
LENGTH = 1 << 22  # characters of a text; a million tokens
Make = Callable[..., Sequence[str]]
"""A function at the top of a module, which makes texts of plain values."""


class TemplateRefusal(Exception):  # noqa: N818 (it is caught and told in other words, never shown)
    """A template refused its values, or is none; the message says why."""


class TemplateLimitError(DataError):
    """A template took more memory or time than is allowed, or made a longer text."""


def rendered(what: str, make: Make, *values: object) -> Sequence[str]:
    """Call `make` with plain values in the bounded process; the texts that it returns.

    Args:
        what: whose texts they are, for messages: `the chat template`.
        make: raises what it likes; the process imports its module.
    Raises:
        TemplateRefusal: it raised.
        TemplateLimitError: it took more memory or time than is allowed, or made a longer text.
    """
    request = pickle.dumps((SECONDS, make, values))
    with _LOCK:
        for _ in range(2):  # once more where somebody else has ended the process
            process = _process()
            answer = process.ask(request)
            if answer is not None:
                break
            code = process.end()
            if code == -signal.SIGPROF:
                raise TemplateLimitError(f"{what} takes more than {SECONDS} s: {_MEND}")
        else:
            raise EngineError(f"the process that renders templates ended with code {code}; is memory left?")
    kind, *texts = answer
    if kind == "refused":
        raise TemplateRefusal(texts[0])
    if kind == "memory":
        raise TemplateLimitError(f"{what} takes more than {MEMORY_MB} MB of memory: {_MEND}")
    if kind == "length":
        raise TemplateLimitError(
            f"{what} makes a text of {int(texts[0]):,} characters, at most {LENGTH:,} are allowed: {_MEND}"
        )
    return texts


_MEND = "look for what it repeats, doubles or pads; mend the template, its options, or the messages that it was given"


def start() -> None:
    """Start the process, where it does not run yet: it is ready when the first text is wanted."""
    with _LOCK:
        _process()


class _Process:
    """The end of this process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._connection, theirs = Pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}\nfrom llmrl.sandbox import rendering\n"
        code += f"rendering.serve({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # ctrl-C is for the parent
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        theirs.close()

    def ask(self, request: bytes) -> list[str] | None:
        """The answer; None where the process has ended."""
        try:
            self._connection.send_bytes(request)
            answer: list[str] = pickle.loads(self._connection.recv_bytes())
            return answer
        except (EOFError, OSError):
            return None

    def end(self) -> int:
        """End the process; its exit code."""
        self._connection.close()
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_LOCK = threading.Lock()
_RUNNING: list[_Process] = []


def _process() -> _Process:
    """The process that runs, or a new one; a forked child takes one of its own."""
    if not _RUNNING or _RUNNING[0].owner != os.getpid() or _RUNNING[0]._process.poll() is not None:
        _RUNNING[:] = [_Process()]
    return _RUNNING[0]


@atexit.register
def _end() -> None:
    while _RUNNING:
        process = _RUNNING.pop()
        if process.owner == os.getpid():
            process.end()


def serve(fd: int) -> None:
    """Answer on the connection `fd` until the other end is closed: the main function of the process."""
    import resource

    import transformers.utils.chat_template_utils  # noqa: F401 (before the clock runs)

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MB << 20, MEMORY_MB << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(fd)
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        connection.send_bytes(pickle.dumps(_answer(request)))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(request: bytes) -> list[str]:
    try:
        seconds, make, values = pickle.loads(request)  # imports its module
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends this process, whoever holds the interpreter
        texts = list(make(*values))
        longest = max(map(len, texts), default=0)
        return ["length", str(longest)] if longest > LENGTH else ["texts", *texts]
    except MemoryError:
        return ["memory"]
    except Exception as error:  # a template is a program
        return ["refused", _told(error)]


def _told(error: Exception) -> str:
    """Text of an error: jinja's own without its class, with the line where it has one."""
    line = f"line {error.lineno}: " if getattr(error, "lineno", None) else ""  # type: ignore[attr-defined]
    ours = type(error).__module__.startswith("jinja2")
    return line + (str(getattr(error, "message", error)) if ours else f"{type(error).__name__}: {error}")
