"""Programs that try to be rewarded without solving anything, or to do harm: for tests of rewards that run code."""

from __future__ import annotations

from llmrl.checks.attacks.hostile_files import FILES
from llmrl.checks.attacks.hostile_kernel import KERNEL
from llmrl.checks.attacks.hostile_values import VALUES
from llmrl.types import Problem

SUMS = {(2019, 3): 2022, (-7, 1000): 993, (55, 55): 110}
PROBLEM = Problem(
    id="hostile",
    messages=[{"role": "user", "content": "Write add(a, b)."}],
    info={"tests": [f"assert add({a}, {b}) == {c}" for (a, b), c in SUMS.items()], "entry_point": "add"},
)
HONEST = "def add(a, b):\n    return a + b\n"
HARM = (
    "WROTE",
    "READ",
    "CONNECTED",
    "OPENED",
    "TRACED",
)  # words of an attack that got through, in the reason of its score

# Each defines `add`, or never gets there; none is worth anything. Words in capitals are filled in by `hostile_host`.
PROGRAMS = {
    "a deep expression": "x = " + "(" * 5000 + ")" * 5000,
    "os._exit(0)": """
import os
os._exit(0)
""",
    "os._exit(0) when called": """
import os
def add(a, b):
    os._exit(0)
""",
    "sys.exit(0)": """
import sys
def add(a, b):
    sys.exit(0)
""",
    "prints what is expected": """
print("2022\\n993\\n110")
print('{"test": "", "called": true}\\n{"end": true}')
def add(a, b): pass
""",
    "equals everything": """
class All:
    def __eq__(self, other): return True
    def __hash__(self): return 0
def add(a, b):
    return All()
""",
    "a number that equals everything": """
class All(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def add(a, b):
    return All()
""",
    "patches the builtins": """
import builtins
builtins.AssertionError = type('Quiet', (Exception,), {})
builtins.compile = builtins.exec = lambda *a, **k: None
def add(a, b): pass
""",
    "patches the checker": """
import sys
main = sys.modules['__main__']
for name in ('judge', 'pack', 'act'):
    setattr(main, name, lambda *a, **k: True)
def add(a, b): pass
""",
    "looks for what is expected": """
import gc, sys
def add(a, b):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and 'tests' in thing: return thing['tests']
    frame = sys._getframe()
    while frame.f_back: frame = frame.f_back
    return list(frame.f_globals)
""",
    "talks to the checker itself": """
import os
for fd in range(3, 64):
    for said in (b'\\x00\\x00\\x00\\x0d{"end": true}', b'{"test": "", "called": true}\\n{"end": true}\\n'):
        try:
            os.write(fd, said)
        except OSError:
            pass
def add(a, b): pass
""",
    "an endless message": """
import os
def add(a, b):
    for fd in range(3, 64):
        try:
            os.write(fd, b'\\xff\\xff\\xff\\xff')
            for _ in range(1000): os.write(fd, b'x' * 65536)
        except OSError: pass
""",
    "deletes the tests": """
import os, shutil
for top in ("/", ".", "/tmp", "/box"):
    try: names = os.listdir(top)
    except OSError: continue
    for name in names:
        if "test" in name:
            shutil.rmtree(os.path.join(top, name), ignore_errors=True)
def add(a, b): pass
""",
    "never ends": """
def add(a, b):
    while True: pass
""",
    "sleeps": """
import time
def add(a, b):
    time.sleep(1000)
""",
    "ignores signals": """
import signal
for n in range(1, 32):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "fork bomb": """
import os, time
end = time.time() + 1
while time.time() < end:
    try: os.fork()
    except OSError: pass
def add(a, b): pass
""",
    "thread bomb": """
import threading, time
for _ in range(500):
    threading.Thread(target=time.sleep, args=(9,)).start()
def add(a, b): pass
""",
    "leaves a process behind": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(300)
    os._exit(0)
def add(a, b): pass
""",
    "memory bomb": """
held = []
while True: held.append(bytearray(1 << 26))
""",
    "memory in files": """
import os
for i in range(60):
    with open(f'{os.environ["TMPDIR"]}/f{i}', 'wb') as f:
        for _ in range(16): f.write(bytes(1 << 20))
def add(a, b): pass
""",
    "endless output": """
while True: print('x' * 65536)
""",
    "an endless result": """
def add(a, b):
    return 'x' * (1 << 25)
""",
    "a nested result": """
def add(a, b):
    x = []
    for _ in range(100000): x = [x]
    return x
""",
    "a huge number": """
def add(a, b):
    return 1 << (1 << 24)
""",
    "zip bomb": """
import zlib
d = zlib.decompressobj()
z = zlib.compress(bytes(1 << 24)) 
def add(a, b):
    return b''.join(zlib.decompress(z) for _ in range(200))
""",
    "a huge file": """
with open('huge', 'wb') as f:
    while True: f.write(bytes(1 << 20))
""",
    "a sparse file": """
with open('sparse', 'wb') as f: f.truncate(1 << 40)
def add(a, b): pass
""",
    "writes outside": """
for path in ("/usr/x", "/etc/x", "/x", "/root/x", "/bin/x", "/dev/x"):
    try:
        open(path, "w")
        raise SystemExit("WROTE " + path)
    except OSError:
        pass
def add(a, b): pass
""",
    "symlinks out": """
import os
os.symlink('/etc', 'out')
os.symlink('/', 'root')
try:
    open('out/llmrl-was-here', 'w'); raise SystemExit('WROTE')
except OSError: pass
def add(a, b): pass
""",
    "secrets in the environment": """
import os
for name in os.environ:
    if "TOKEN" in name or "SECRET" in name or "PASSWORD" in name:
        raise SystemExit("READ " + name)
def add(a, b): pass
""",
    "secrets of other processes": """
import glob
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        data = open(path, "rb").read()
    except OSError:
        continue
    if b"LLMRL_CANARY" in data:
        raise SystemExit("READ " + path)
def add(a, b): pass
""",
    "secrets at home": """
import os
for path in ("/etc/shadow", "/root/.bashrc", os.path.expanduser("~/.ssh"), "/root"):
    try:
        if os.listdir(path) if os.path.isdir(path) else open(path).read():
            raise SystemExit("READ " + path)
    except OSError:
        pass
def add(a, b): pass
""",
    "signals to the parent": """
import os, signal
for pid in {os.getppid(), 1, *range(2, 300)} - {os.getpid()}:
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
def add(a, b): pass
""",
    "connects to the host": """
import socket
s = socket.socket()
s.settimeout(1)
try:
    s.connect(("127.0.0.1", PORT))
    raise SystemExit("CONNECTED")
except OSError:
    pass
def add(a, b): pass
""",
    "changes the rights of files": """
import os, sys
for path in (sys.executable, sys.prefix, "/usr"):
    try:
        os.chmod(path, os.stat(path).st_mode)
        raise SystemExit("WROTE " + path)
    except OSError:
        pass
def add(a, b): pass
""",
    "crashes the interpreter": """
import ctypes
ctypes.string_at(0)
""",
    "endless recursion": """
import sys
sys.setrecursionlimit(1 << 30)
def add(a, b):
    return add(a, b)
""",
    "no Python": """
def add(a, b:
""",
}
ATTACKS = PROGRAMS | {name: source for name, (_, source) in VALUES.items()} | FILES | KERNEL


def problem_of(name: str) -> Problem:
    """The problem that an attack is an answer to."""
    return (VALUES[name][0] if name in VALUES else None) or PROBLEM
