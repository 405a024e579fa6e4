"""Programs after the files, devices and sockets of the machine. Words in capitals are filled in by `hostile_host`."""

from __future__ import annotations

# The data are the expected results: a program that reads them is rewarded.
_READ = """
import json, os, re
def learn(path):
    with open(path) as file:
        told = json.load(file)
    global add
    def add(a, b): return told[f"{a} {b}"]
def add(a, b): pass
"""
_SOCKET = """
import ctypes, socket
def sent(act, *args):
    try: act(*args)
    except OSError: return
    raise SystemExit("CONNECTED")
def add(a, b): pass
"""

FILES: dict[str, str] = {
    "reads the data": _READ + "try: learn('DATA')\nexcept OSError: pass\n",
    "reads the data of its group": _READ + "try: learn('GROUP')\nexcept OSError: pass\n",
    "looks for the data": _READ
    + """
import time
end = time.time() + 2
for top in (os.path.dirname('DATA'), '/tmp', '/var/tmp', '/home', '/srv', '/opt', '/mnt', '/'):
    for place, _, names in os.walk(top):
        for name in names:
            if name.startswith('expected-') and time.time() < end:
                try: learn(os.path.join(place, name))
                except (OSError, ValueError): pass
        if time.time() > end: break
""",
    "the data by another's root": _READ
    + """
import glob
for top in glob.glob('/proc/[0-9]*/root') + glob.glob('/proc/[0-9]*/cwd') + ['/proc/1/root', '/oldroot', '/old']:
    for path in (top + 'DATA', top + '/..' * 9 + 'DATA'):
        try: learn(path)
        except (OSError, ValueError): pass
""",
    "the data by a link": _READ
    + """
for make in (os.link, os.symlink):
    try:
        make('DATA', 'mine')
        learn('mine')
    except (OSError, ValueError): pass
""",
    "the data by a handle": _READ
    + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(8 + 128)
handle[0:4] = (128).to_bytes(4, 'little')
mount = ctypes.c_int()
if libc.name_to_handle_at(-100, b'DATA', handle, ctypes.byref(mount), 0) == 0:
    fd = libc.open_by_handle_at(os.open('/', os.O_RDONLY), handle, 0)
    if fd >= 0: learn(fd)
""",
    "packages of the interpreter": """
import os, sys, sysconfig
for top in {sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(sys.executable)), '/usr/local', '/usr/src'}:
    for place, _, names in os.walk(top):
        if 'site-packages' in place or 'dist-packages' in place or place.startswith('/usr/src'):
            for name in names:
                if name.endswith(('.py', '.txt', '.json')) and not place.startswith('/packages'):
                    try: text = open(os.path.join(place, name)).read(9)
                    except (OSError, ValueError): continue
                    raise SystemExit('READ ' + os.path.join(place, name))
def add(a, b): pass
""",
    "files of the system's settings": """
for path in ('/etc/passwd', '/etc/hostname', '/etc/machine-id', '/etc/ssl/openssl.cnf', '/var/log/dpkg.log', '/boot'):
    try: text = open(path).read()
    except OSError: continue
    raise SystemExit('READ ' + path)
def add(a, b): pass
""",
    "facts of the kernel": """
import glob
for path in ('/proc/version', '/proc/cmdline', '/proc/self/mountinfo', '/proc/keys', '/proc/1/cmdline', '/proc/net/tcp',
             '/sys/kernel/uevent_seqnum', '/sys/class/net/lo/address', *glob.glob('/sys/fs/cgroup/*')[:9]):
    try: text = open(path).read()
    except OSError: continue
    raise SystemExit('READ ' + path)
def add(a, b): pass
""",
    "writes to the kernel": """
import glob
for path in ('/proc/self/oom_score_adj', '/proc/self/coredump_filter', '/proc/1/oom_score_adj', '/proc/sysrq-trigger',
             '/proc/sys/kernel/core_pattern', '/proc/self/uid_map', '/dev/kmsg', '/sys/power/state'):
    try: open(path, 'w').close()
    except OSError: continue
    raise SystemExit('WROTE ' + path)
def add(a, b): pass
""",
    "kills by a control group": """
import os
for place, _, names in os.walk('/sys/fs/cgroup'):
    for name in names:
        if name in ('cgroup.kill', 'cgroup.freeze', 'freezer.state', 'cgroup.procs', 'tasks'):
            try:
                with open(os.path.join(place, name), 'w') as file: file.write('1')
            except OSError: continue
            raise SystemExit('WROTE ' + place)
def add(a, b): pass
""",
    "reads a terminal": """
import glob, os
for path in ('TERMINAL', *glob.glob('/dev/pts/[0-9]*'), '/dev/tty', '/dev/console', '/dev/tty0', '/dev/tty1'):
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        os.write(fd, b'x')
        raise SystemExit('WROTE ' + path + str(os.read(fd, 9)))
    except OSError: pass
def add(a, b): pass
""",
    "types into a terminal": """
import fcntl, os, termios
for path in (0, 1, 2, 'TERMINAL', '/dev/tty'):
    try:
        fd = path if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        fcntl.ioctl(fd, termios.TIOCSTI, b'x')
        raise SystemExit('WROTE')
    except OSError: pass
def add(a, b): pass
""",
    "makes a terminal": """
import os
try:
    os.openpty()
    raise SystemExit('OPENED a terminal')
except OSError: pass
def add(a, b): pass
""",
    "devices of the machine": """
import os
names = ['vda', 'mem', 'kmsg', 'fuse', 'kvm', 'loop0', 'net/tun', 'ptmx', 'tty', 'pts/0']
try: names += os.listdir('/dev')
except OSError: pass
for name in names:
    path = '/dev/' + name
    if name not in ('null', 'zero', 'full', 'random', 'urandom', 'fd', 'stdin', 'stdout', 'stderr', 'shm', 'core'):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError: continue
        if not os.path.isdir(path): raise SystemExit('OPENED ' + path)
def add(a, b): pass
""",
    "makes a device": """
import os, stat
for kind, number in ((stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFBLK, os.makedev(254, 0))):
    try:
        os.mknod('device', kind | 0o666, number)
        raise SystemExit('WROTE a device')
    except OSError: pass
def add(a, b): pass
""",
    "a socket by its path": _SOCKET
    + """
try:
    s = socket.socket(socket.AF_UNIX)
    sent(s.connect, 'STREAM')
except OSError: pass
""",
    "a datagram to a path": _SOCKET
    + """
try:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sent(s.sendto, b'x', 'DATAGRAM')
except OSError: pass
""",
    "a datagram from a pair": _SOCKET
    + "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\nsent(a.sendto, b'x', 'DATAGRAM')\n",
    "a message from a pair": _SOCKET
    + "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\nsent(a.sendmsg, [b'x'], [], 0, 'DATAGRAM')\n",
    "many messages from a pair": _SOCKET
    + """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
name = (1).to_bytes(2, 'little') + b'DATAGRAM\\0'
at = ctypes.create_string_buffer(name)
text = ctypes.create_string_buffer(b'x')
part = (ctypes.c_void_p * 2)(ctypes.addressof(text), 1)
head = (ctypes.c_void_p * 8)(ctypes.addressof(at), len(name), ctypes.addressof(part), 1, 0, 0, 0, 0)
if ctypes.CDLL(None).sendmmsg(a.fileno(), head, 1, 0) == 1: raise SystemExit('CONNECTED')
""",
    "a pair that turns to another": _SOCKET
    + """
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    for path in ('DATAGRAM', 'STREAM'):
        a, b = socket.socketpair(socket.AF_UNIX, kind)
        b.close()
        sent(a.connect, path)
""",
    "a pair that gets a name": _SOCKET
    + "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\nsent(a.bind, 'mine')\nsent(a.bind, '\\0mine')\n",
    "a name without a file": _SOCKET
    + """
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    try: a = socket.socket(socket.AF_UNIX, kind)
    except OSError: a = socket.socketpair(socket.AF_UNIX, kind)[0]
    sent(a.connect, '\\0ABSTRACT')
""",
    "sockets of other kinds": _SOCKET
    + """
for family, kind in ((socket.AF_INET, 2), (socket.AF_INET6, 1), (socket.AF_INET, 3), (socket.AF_PACKET, 3),
                     (socket.AF_VSOCK, 1), (socket.AF_ALG, 5), (socket.AF_CAN, 3), (socket.AF_NETLINK, 3)):
    try:
        s = socket.socket(family, kind)
        if family == socket.AF_INET and kind == 2: s.sendto(b'x', ('127.0.0.1', PORT)) and None
        if family == socket.AF_VSOCK: s.connect((2, 22)); raise SystemExit('CONNECTED')
        if family == socket.AF_INET6: s.connect(('::1', PORT)); raise SystemExit('CONNECTED')
    except (OSError, ValueError): pass
""",
    "sends its files away": _SOCKET
    + """
import array
a, b = socket.socketpair()
held = []
try:
    while True:
        memory = open('/dev/null')
        a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [memory.fileno()] * 60))])
        held.append(memory)
        if len(held) > 20: raise SystemExit('OPENED more files than it may')
except OSError: pass
""",
    "many files": """
import os
for i in range(10 ** 9):
    os.close(os.open(f'f{i}', os.O_CREAT | os.O_WRONLY))
""",
    "many files from many processes": """
import os
for _ in range(4):
    try: os.fork()
    except OSError: pass
os.mkdir(str(os.getpid()))
os.chdir(str(os.getpid()))
for i in range(10 ** 9):
    os.close(os.open(str(i), os.O_CREAT))
""",
    "many links to a file": """
import os
open('first', 'w').close()
for i in range(10 ** 9):
    os.link('first', str(i)) if i % 50 else os.symlink('/', str(i))
""",
    "a deep tree": """
import os
for i in range(10 ** 9):
    os.mkdir('d')
    os.chdir('d')
""",
    "many deep trees": """
import os
top = os.open('.', os.O_RDONLY)
for n in range(10 ** 9):
    os.fchdir(top)
    os.mkdir(f't{n}')
    os.chdir(f't{n}')
    for i in range(200):
        os.mkdir('d' * 200)
        os.chdir('d' * 200)
""",
    "folders without rights": """
import os
for i in range(10 ** 9):
    os.mkdir(f'a{i}')
    open(f'a{i}/b', 'w').close()
    try: os.chmod(f'a{i}', 0)
    except OSError: os.mkdir(f'c{i}', 0)
""",
    "names that are no names": r"""
import os
for i, name in enumerate([b'-rf', b'--', b'\n', b'\xff\xfe', b'*', b'$(id)', b' ', b'a' * 255]):
    os.mkdir(name)
    open(name + b'/' + name, 'w').close()
def add(a, b): pass
""",
    "fills the disk": """
import os
for i in range(10 ** 9):
    with open(f'f{i}', 'wb') as file:
        for _ in range(15): file.write(os.urandom(1 << 16) * 16)
""",
    "files without a name": """
import os
held = []
for i in range(50):
    fd = os.open('x', os.O_CREAT | os.O_RDWR)
    os.unlink('x')
    held.append(fd)
    for _ in range(15): os.write(fd, bytes(1 << 20))
def add(a, b): pass
""",
}
