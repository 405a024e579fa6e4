"""Lines of libraries go to a file; those of llmrl and its user go to the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrl.errors import EngineError
from llmrl.run_folder.libraries import FILE, keep_in, kept_apart, shown

ROOT = Path(__file__).parents[3]
NOISE = """
import ctypes, logging, os, subprocess, sys, warnings
print("banner by print")
print("note by stderr", file=sys.stderr)
logging.getLogger("noisy").warning("warning by logging")
warnings.warn("warning of a library")
os.write(1, b"native on 1\\n"); os.write(2, b"native on 2\\n")
ctypes.CDLL(None).puts(b"from C"); ctypes.CDLL(None).fflush(None)
subprocess.run([sys.executable, "-c", "import sys; print('a child'); print('its error', file=sys.stderr)"])
def tell(text): print(text)
"""
SAID = ["banner by print", "note by stderr", "warning by logging", "warning of a library", "native on 1", "native on 2"]
SAID += ["from C", "a child", "its error"]
USER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {site!r}]
from llmrl.run_folder import libraries
with libraries.kept_apart({verbose}):
    print("own line")
    print("own note", file=sys.stderr)
    from rich.console import Console
    Console().print("by rich")
    import logging
    logging.getLogger("llmrl.x").warning("own warning")
    import noisy
    libraries.keep_in(Path({folder!r}))
    noisy.tell("told later")
    {more}
print("own end")
"""


def run(folder: Path, verbose: str = "", more: str = "") -> tuple[list[str], list[str], str]:
    """Lines on both streams, and the log, of a program whose library is loud."""
    site = folder / "site-packages"
    site.mkdir(parents=True)
    (site / "noisy.py").write_text(NOISE)
    program = USER.format(root=str(ROOT), site=str(site), verbose=verbose, folder=str(folder / "run"), more=more)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    log = folder / "run" / FILE
    return done.stdout.splitlines(), done.stderr.splitlines(), log.read_text() if log.exists() else ""


def test_only_own_lines_reach_the_terminal(tmp_path: Path) -> None:
    out, err, log = run(tmp_path)
    assert out == ["own line", "by rich", "own end"]
    assert err == ["own note", "own warning"]
    assert not [text for text in [*SAID, "told later"] if text not in log]
    assert not [line for line in log.splitlines() if line.startswith(("own", "by rich"))]


def test_verbose_shows_all_and_keeps_nothing(tmp_path: Path) -> None:
    out, err, log = run(tmp_path, "verbose=True")
    assert not [text for text in SAID if not any(text in line for line in out + err)]
    assert not log


def test_verbose_may_be_asked_for_inside(tmp_path: Path) -> None:
    out, _, log = run(tmp_path, more="libraries.shown(); noisy.tell('shown again')")
    assert "shown again" in out
    assert "shown again" not in log


@pytest.mark.parametrize(
    ("error", "told"), [("EngineError('x')", True), ("ValueError('x')", True), ("DataError('x')", False)]
)
def test_an_error_that_libraries_may_explain_names_the_file(error: str, told: bool, tmp_path: Path) -> None:
    _, err, log = run(tmp_path, more=f"from llmrl.errors import *; raise {error}")
    named = [line for line in err if str(tmp_path / "run" / FILE) in line]
    assert bool(named) is told
    assert "told later" in log


def test_before_there_is_a_folder_an_error_keeps_what_was_printed(capfd: pytest.CaptureFixture[str]) -> None:
    @kept_apart()
    def fail() -> None:
        os.write(2, b"why it failed\n")
        raise EngineError("it failed")

    with pytest.raises(EngineError):
        fail()
    path = Path(capfd.readouterr().err.strip().rpartition(" ")[2])
    assert path.read_text() == "why it failed\n"
    path.unlink()


def test_contexts_nest_and_leave_everything_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    streams = sys.stdout, sys.stderr
    with kept_apart():
        with kept_apart():
            keep_in(tmp_path / "first")
        keep_in(tmp_path / "second")  # one run, one file
        os.write(1, b"kept\n")
    assert (sys.stdout, sys.stderr) == streams
    shown()  # and once more
    os.write(1, b"seen\n")
    assert capfd.readouterr().out == "seen\n"
    assert (tmp_path / "first" / FILE).read_text() == "kept\n"
    assert not (tmp_path / "second").exists()


PATCHES = """
def callback(): print("by its callback")
def patch(before=sys.stdout.write):
    def reading_along(text):
        seen = before(text)
        if text == "{asks}": callback()
        return seen
    sys.stdout.write = reading_along
patch()
"""
TWICE = PATCHES.format(asks="") + "patch(sys.stdout.write)"
REPLACES = """
class Tee:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text)
    def flush(self): self.stream.flush()
sys.stdout = Tee(sys.stdout)
"""


@pytest.mark.parametrize("front", [PATCHES.format(asks="own line"), TWICE, REPLACES])
def test_a_library_that_reads_along_hides_no_own_line(front: str, tmp_path: Path) -> None:
    """W&B puts a function of its own in place of `sys.stdout.write`."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "tracker.py").write_text(f"import sys\n{front}\ndef tell(text): print(text)\n")
    program = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(site)!r}]
from llmrl.run_folder import libraries
with libraries.kept_apart():
    libraries.keep_in(Path({str(tmp_path)!r}))
    import tracker
    print("own line")
    tracker.tell("line of the tracker")
    sys.stdout.write("written\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["own line", "written"]
    assert "line of the tracker" in (tmp_path / FILE).read_text()
    assert ("by its callback" in (tmp_path / FILE).read_text()) == ('"own line"' in front)
