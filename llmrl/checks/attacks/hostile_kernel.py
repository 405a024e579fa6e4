"""Programs after other processes, and after doors of the kernel. Words in capitals are filled in by `hostile_host`."""

from __future__ import annotations

# `call` is a system call by its name; `got` says that one was granted. The processes of these are called WORD.
_CALLS = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, b'WORD')
X86 = dict(clone=56, ptrace=101, shmget=29, semget=64, msgget=68, mount=165, umount2=166, chroot=161,
    pivot_root=155, setns=308, unshare=272, add_key=248, request_key=249, keyctl=250, process_vm_readv=310,
    process_vm_writev=311, kcmp=312, userfaultfd=323, bpf=321, perf_event_open=298, memfd_create=319,
    mq_open=240, syslog=103, personality=135, prlimit64=302, rt_sigqueueinfo=129, tgkill=234, setpgid=109,
    setsid=112, name_to_handle_at=303, fanotify_init=300, modify_ldt=154, ioprio_set=251,
    sched_setaffinity=203, acct=163, swapon=167, kexec_load=246)
ARM = dict(clone=220, ptrace=117, shmget=194, semget=190, msgget=186, mount=40, umount2=39, chroot=51,
    pivot_root=41, setns=268, unshare=97, add_key=217, request_key=218, keyctl=219, process_vm_readv=270,
    process_vm_writev=271, kcmp=272, userfaultfd=282, bpf=280, perf_event_open=241, memfd_create=279,
    mq_open=180, syslog=116, personality=92, prlimit64=261, rt_sigqueueinfo=138, tgkill=131, setpgid=154,
    setsid=157, name_to_handle_at=264, fanotify_init=262, modify_ldt=9999, ioprio_set=30,
    sched_setaffinity=122, acct=89, swapon=224, kexec_load=104)
NEW = dict(pidfd_open=434, pidfd_getfd=438, pidfd_send_signal=424, io_uring_setup=425, clone3=435,
    open_tree=428, fsopen=430, move_mount=429, mount_setattr=442, memfd_secret=447, process_madvise=440,
    process_mrelease=448)
NUMBERS = {**(X86 if os.uname().machine == 'x86_64' else ARM), **NEW}
def call(name, *args):
    return libc.syscall(NUMBERS[name], *[a if isinstance(a, bytes) else ctypes.c_long(a) for a in args])
def got(what, result):
    if result >= 0: raise SystemExit('OPENED ' + what)
def add(a, b): pass
"""
_OTHERS = (
    "OTHERS = [VICTIM, os.getppid(), 1, *range(2, 9)]\nOTHERS = [p for p in OTHERS if p not in (0, os.getpid())]\n"
)
_SHELL = "time.sleep(300)\nos._exit(0)\n"

KERNEL: dict[str, str] = {
    "traces the first process": _CALLS
    + _OTHERS
    + """
for pid in OTHERS:
    for request in (16, 0x4206):
        if call('ptrace', request, pid, 0, 0) == 0: raise SystemExit('TRACED %d' % pid)
""",
    "takes the first process over": _CALLS
    + """
class Regs(ctypes.Structure):
    names = 'r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig rip cs fl rsp ss fs gs ds es f g'
    _fields_ = [(name, ctypes.c_ulonglong) for name in names.split()]
for pid in (1, os.getppid()):
    if call('ptrace', 16, pid, 0, 0): continue
    os.waitpid(pid, 0x40000000)
    regs = Regs()
    libc.ptrace(12, pid, None, ctypes.byref(regs))
    regs.rax, regs.rdi, regs.rsi, regs.rip = 157, 1, 0, regs.rip - 2
    libc.ptrace(13, pid, None, ctypes.byref(regs))
    libc.ptrace(9, pid, None, None)
    os.waitpid(pid, 0x40000000)
    if os.fork() == 0:
        time.sleep(300)
    raise SystemExit('TRACED')
""",
    "is traced by its child": _CALLS
    + """
if os.fork() == 0:
    time.sleep(0.2)
    os._exit(1 if call('ptrace', 16, os.getppid(), 0, 0) == 0 else 0)
if os.wait()[1]: raise SystemExit('TRACED')
""",
    "asks to be traced": _CALLS + "got('ptrace', call('ptrace', 0, 0, 0, 0))\n",
    "reads the memory of others": _CALLS
    + _OTHERS
    + """
here = ctypes.create_string_buffer(8)
mine = (ctypes.c_void_p * 2)(ctypes.addressof(here), 8)
for pid in OTHERS:
    for name in ('process_vm_readv', 'process_vm_writev'):
        if call(name, pid, ctypes.addressof(mine), 1, ctypes.addressof(mine), 1, 0) > 0:
            raise SystemExit('TRACED by ' + name)
    try: open(f'/proc/{pid}/mem', 'r+b').close()
    except OSError: continue
    raise SystemExit(f'TRACED by /proc/{pid}/mem')
""",
    "calls for the memory of its own": _CALLS
    + """
here = ctypes.create_string_buffer(8)
mine = (ctypes.c_void_p * 2)(ctypes.addressof(here), 8)
for name in ('process_vm_readv', 'process_vm_writev'):
    got(name, call(name, os.getpid(), ctypes.addressof(mine), 1, ctypes.addressof(mine), 1, 0))
got('kcmp', call('kcmp', os.getpid(), os.getpid(), 0, 0, 1))
""",
    "takes files from others": _CALLS
    + _OTHERS
    + """
for pid in [*OTHERS, os.getpid()]:
    handle = call('pidfd_open', pid, 0)
    if handle >= 0:
        for fd in range(64): got('pidfd_getfd', call('pidfd_getfd', handle, fd, 0))
""",
    "signals by handle": _CALLS
    + _OTHERS
    + """
for pid in OTHERS:
    handle = call('pidfd_open', pid, 0)
    if handle >= 0: call('pidfd_send_signal', handle, 9, 0, 0)
    info = (9).to_bytes(4, 'little') + bytes(4) + (-1 & 0xffffffff).to_bytes(4, 'little') + bytes(116)
    call('rt_sigqueueinfo', pid, 9, info)
    call('tgkill', pid, pid, 9)
""",
    "signals to all": _CALLS
    + "for n in (19, 15, 9):\n    for pid in (-1, 0, -VICTIM):\n        if pid:\n            try: os.kill(pid, n)\n"
    "            except OSError: pass\n",
    "limits of others": _CALLS
    + _OTHERS
    + """
for pid in OTHERS:
    none = (ctypes.c_ulonglong * 2)(0, 0)
    if pid > 9 and call('prlimit64', pid, 0, ctypes.addressof(none), 0) == 0: raise SystemExit('WROTE limits')
    call('sched_setaffinity', pid, 8, ctypes.addressof(ctypes.c_ulonglong(1)))
    call('ioprio_set', 1, pid, 3 << 13)
""",
    "a chain of forks": _CALLS
    + """
def chain():
    while True:
        try:
            if os.fork(): os._exit(0)
        except OSError: pass
if os.fork() == 0: chain()
""",
    "a chain of forks, its end before ours": _CALLS
    + """
if os.fork() == 0:
    while True:
        try:
            if os.fork(): os._exit(0)
        except OSError: pass
os._exit(0)
""",
    "many chains of forks": _CALLS
    + """
for _ in range(6):
    try: pid = os.fork()
    except OSError: break
    if pid == 0:
        os.closerange(0, 64)
        libc.prctl(1, 0)
        while True:
            try:
                if os.fork(): os._exit(0)
            except OSError: pass
""",
    "a child that sleeps": _CALLS
    + "if os.fork() == 0:\n    os.closerange(0, 64)\n    "
    + _SHELL.replace("\n", "\n    ")
    + "\n",
    "a child that hides": _CALLS
    + """
if os.fork() == 0:
    for name in ('setsid', 'setpgid'): call(name, 0, 0)
    libc.prctl(1, 0)
    libc.clearenv()
    if os.fork() == 0:
        os.closerange(0, 64)
        os.execve('/bin/sleep', ['WORD', '300'], {})
    os._exit(0)
""",
    "a child of vfork that stays": _CALLS
    + """
import subprocess
for _ in range(3):
    try: subprocess.Popen(['/bin/sh', '-c', 'trap "" 1 2 3 15; sleep 301 & sleep 302'], close_fds=False)
    except OSError: pass
""",
    "stops itself": _CALLS + "os.kill(0, signal.SIGSTOP)\n",
    "stops with its children": _CALLS
    + """
for _ in range(5):
    if os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
""",
    "a group of its own": _CALLS
    + "if os.fork() == 0:\n    call('setpgid', 0, 0)\n    "
    + _SHELL.replace("\n", "\n    ")
    + "\n",
    "children that are not collected": _CALLS
    + "while True:\n    try:\n        if os.fork() == 0: os._exit(0)\n    except OSError: pass\n",
    "threads that fork": _CALLS
    + """
import threading
def work():
    while True:
        try:
            if os.fork() == 0: time.sleep(300)
        except OSError: pass
for _ in range(8):
    try: threading.Thread(target=work, daemon=True).start()
    except RuntimeError: pass
time.sleep(1)
""",
    "keys of the kernel": _CALLS
    + """
for ring in (-1, -2, -3, -4, -5):
    key = call('keyctl', 10, ring, b'user\\0', b'KEY\\0', 0)
    if key > 0: raise SystemExit('READ a key')
    key = call('request_key', b'user\\0', b'KEY\\0', 0, ring)
    if key > 0: raise SystemExit('READ a key')
    got('add_key', call('add_key', b'user\\0', b'mine\\0', b'x', 1, ring))
got('keyctl', call('keyctl', 1, 0))
""",
    "faults of its own": _CALLS + "for flags in (0, 1, 0x80000): got('userfaultfd', call('userfaultfd', flags))\n",
    "a ring of calls": _CALLS
    + "got('io_uring', call('io_uring_setup', 8, ctypes.addressof(ctypes.create_string_buffer(256))))\n",
    "namespaces by unshare": _CALLS
    + "for flags in (0x10000000, 0x10020000, 0x20000000, 0x40000000): got('unshare', call('unshare', flags))\n",
    "namespaces by clone": _CALLS
    + """
for flags in (0x10000000, 0x10020000, 0x50000000, 0x20000000, 0x40000000, 0x20000, 0x02000000, 0x04000000, 0x08000000):
    pid = call('clone', flags | 17, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    got('clone', pid)
""",
    "namespaces by clone3": _CALLS
    + """
for flags in (0x10000000, 0x20000000, 0x10020000, 0x80):
    told = (ctypes.c_ulonglong * 8)(flags, 0, 0, 0, 17, 0, 0, 0)
    pid = call('clone3', ctypes.addressof(told), 64)
    if pid == 0: os._exit(0)
    got('clone3', pid)
""",
    "namespaces of others": _CALLS
    + _OTHERS
    + """
for pid in OTHERS:
    handle = call('pidfd_open', pid, 0)
    for flags in (0x20000, 0x10000000, 0x40000000):
        if handle >= 0: got('setns', call('setns', handle, flags))
    try: got('setns', call('setns', os.open(f'/proc/{pid}/ns/mnt', os.O_RDONLY), 0))
    except OSError: pass
""",
    "mounts": _CALLS
    + """
os.mkdir('m')
got('mount', call('mount', b'none\\0', b'm\\0', b'tmpfs\\0', 0, 0))
got('mount', call('mount', b'/usr\\0', b'm\\0', b'none\\0', 4096, 0))
got('umount', call('umount2', b'/proc\\0', 2))
got('umount', call('umount2', b'/dev/shm\\0', 2))
got('chroot', call('chroot', b'.\\0'))
got('pivot_root', call('pivot_root', b'.\\0', b'.\\0'))
got('open_tree', call('open_tree', -100, b'/\\0', 1))
got('fsopen', call('fsopen', b'tmpfs\\0', 0))
got('mount_setattr', call('mount_setattr', -100, b'/\\0', 0, ctypes.addressof(ctypes.create_string_buffer(32)), 32))
""",
    "programs in the kernel": _CALLS
    + """
for kind in (0, 5): got('bpf', call('bpf', kind, ctypes.addressof(ctypes.create_string_buffer(128)), 128))
told = ctypes.create_string_buffer(128)
told[0:8] = (1).to_bytes(4, 'little') + (128).to_bytes(4, 'little')
got('perf_event_open', call('perf_event_open', ctypes.addressof(told), 0, -1, -1, 0))
got('fanotify_init', call('fanotify_init', 0x200, 0))
got('syslog', call('syslog', 3, ctypes.addressof(told), 128))
""",
    "memory in files without a name": _CALLS
    + """
held = []
for i in range(50):
    fd = call('memfd_create', b'x\\0', 0)
    if fd < 0: break
    held.append(fd)
    for _ in range(15): os.write(fd, bytes(1 << 20))
if len(held) > 20: raise SystemExit('OPENED memory that no process has')
got('memfd_secret', call('memfd_secret', 0))
""",
    "memory and queues that stay": _CALLS
    + """
got('shmget', call('shmget', 0x11aa, 1 << 20, 0o1666))
got('semget', call('semget', 0x11aa, 1, 0o1666))
got('msgget', call('msgget', 0x11aa, 0o1666))
got('mq_open', call('mq_open', b'llmrl\\0', 0o102, 0o666, 0))
""",
    "a segment of its own": _CALLS
    + "got('modify_ldt', call('modify_ldt', 0, ctypes.addressof(ctypes.create_string_buffer(64)), 64))\n",
    "accounts, swap and another kernel": _CALLS
    + "for name in ('acct', 'swapon', 'kexec_load'): got(name, call(name, 0, 0, 0, 0))\n",
    "calls of another architecture": _CALLS
    + """
if os.uname().machine == 'x86_64':
    import mmap
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes.fromhex('b814000000cd80c3'))  # getpid by int 0x80
    run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    got('int 0x80', run())
    got('x32', libc.syscall(ctypes.c_long(0x40000000 + 39)))
""",
    "its own rights back": _CALLS
    + """
for act in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.setresuid(0, 0, 0)):
    try: act()
    except OSError: continue
    if os.getuid() == 0 and os.path.exists('/root/.bashrc'): raise SystemExit('OPENED root')
import subprocess
for words in (['su', '-c', 'id'], ['sudo', '-n', 'id'], ['mount', '-t', 'tmpfs', 'x', '/tmp'], ['passwd', '-S']):
    try: done = subprocess.run(words, stdin=-3, stdout=-1, stderr=-3, timeout=2)
    except (OSError, subprocess.TimeoutExpired): continue
    if done.returncode == 0 and done.stdout: raise SystemExit('OPENED ' + words[0])
""",
}
