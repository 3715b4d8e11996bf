"""What a child process gives up before it opens a file of a stranger.

Three layers, each on its own: limits of the kernel on memory, time, files and file sizes; a filter
of system calls, after which there are no sockets, no programs, no processes, and no signals to
others, changes of their limits or of the rights of their files; and, where the kernel has Landlock,
a view of the file system that ends at what decoding needs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.serving import landlock

#: System calls that lead out of the process, to the network, to other programs, or past a filter.
_FORBIDDEN = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "socketcall"),
    *("execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd"),
    *("pidfd_send_signal", "unshare", "setns", "mount", "umount2", "pivot_root", "chroot"),
    *("move_mount", "open_tree", "fsopen", "fsmount", "bpf", "perf_event_open", "userfaultfd"),
    *("keyctl", "add_key", "request_key", "open_by_handle_at", "name_to_handle_at"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "init_module", "finit_module"),
    *("delete_module", "kexec_load", "reboot", "swapon", "swapoff", "acct", "quotactl"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "capset"),
    *("symlink", "symlinkat", "link", "linkat", "mknod", "mknodat"),
    # what Landlock lets through: rights, owners, times and attributes of others' files
    *("chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes"),
    *("futimesat", "setxattr", "lsetxattr", "setxattrat", "removexattr", "lremovexattr"),
    # memory and queues that other processes of the same user could open too
    *("shmget", "shmat", "shmctl", "semget", "semctl", "semop", "semtimedop", "msgget", "msgsnd"),
    *("msgrcv", "msgctl", "mq_open", "mq_unlink", "kcmp", "process_madvise", "process_mrelease"),
    *("migrate_pages", "move_pages", "ioprio_set", "personality"),
)
#: Calls whose first argument names a process: none but the caller's own, which is 0.
_OF_ONESELF = (
    *("prlimit64", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "sched_setattr"),
)
#: Commands of fcntl(2) and ioctl(2) that send a signal to another process when a file is ready:
#: F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP. asm-generic/fcntl.h, sockios.h.
_SIGNALLING = {"fcntl": (8, 10, 15), "ioctl": (0x8901, 0x8902)}
#: Flag of clone(2) that makes a thread and not a process; Linux, sched.h.
_CLONE_THREAD = 0x00010000
#: mallopt(3): number of arenas; each thread's own would reserve 64 MiB of addresses. malloc.h.
_M_ARENA_MAX = -8


@dataclass(frozen=True)
class ProcessLimits:
    """What a child may use.

    Attributes:
        memory_bytes: Private memory.
        cpu_s: Seconds of processor time.
        wall_s: Seconds from its start; its parent watches over them.
        file_bytes: Largest file that it writes.
        open_files: Files open at once.
        threads: Threads of OpenCV.
    """

    memory_bytes: int = 4 * 2**30
    cpu_s: int = 3600
    wall_s: float = 1800.0
    file_bytes: int = 2 * 2**30
    open_files: int = 128
    threads: int = 2


def confine(limits: ProcessLimits, readable: Sequence[Path], writable: Sequence[Path]) -> list[str]:
    """Give up what decoding does not need; there is no way back.

    Args:
        limits: What may be used.
        readable: Files and folders that may be read, beside the system's libraries.
        writable: Folders that may be written to.

    Returns:
        Which layers hold here: `limits`, `no_network`, `files`.
    """
    rules = _call_filter()  # it looks for its library, which nothing can do afterwards
    _limit(limits)
    held = ["limits"]
    if landlock.restrict([*_system_paths(), *readable], writable):
        held.append("files")
    if _loaded(rules):
        held.append("no_network")
    return held


def _limit(limits: ProcessLimits) -> None:
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    with suppress(OSError):  # the first to go when the machine is out of memory, and after others
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.nice(5)
    for kind, value in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        # addresses are more than memory: libraries, reserved arenas, files that are mapped
        (resource.RLIMIT_AS, 2 * limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        # at the hard limit of processor time comes SIGKILL, at the soft one a signal that tells
        highest = value + 5 if kind == resource.RLIMIT_CPU else value
        highest = highest if hard == resource.RLIM_INFINITY else min(highest, hard)
        resource.setrlimit(kind, (min(value, highest), highest))


def _system_paths() -> list[Path]:
    """List what Python and its packages read while they run."""
    root = Path(__file__).resolve().parents[2]
    system = ("/usr", "/lib", "/lib64", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime")
    own = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/dev/null")
    # packages alone, not the project's folder: runs and the state folder often lie in it
    packages = [init.parent for init in root.glob("*/__init__.py")]
    # resolved paths too: what a virtual environment and `weights/files` link to lies elsewhere
    ours = (*packages, root / "weights" / "files", Path(sys.prefix), Path(sys.base_prefix))
    named = (*map(Path, (*system, *own, "/dev/urandom")), *ours)
    entries = [Path(entry).resolve() for entry in sys.path if entry]
    paths = [*named, *(entry for entry in entries if not root.is_relative_to(entry))]
    return [p.resolve() for p in paths if p.exists()]


def _call_filter() -> Any:
    """Make the filter of system calls; None where this system has no libseccomp."""
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError, OSError):
        return None
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _FORBIDDEN:
        # of another architecture or a newer kernel
        with suppress(ValueError, OSError):
            rules.add_rule(refuse, name)
    # abort() signals the own process, by tgkill; others stay out of reach
    rules.add_rule(refuse, "tgkill", seccomp.Arg(0, seccomp.NE, os.getpid()))
    rules.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    for name in _OF_ONESELF:
        rules.add_rule(refuse, name, seccomp.Arg(0, seccomp.NE, 0))
    rules.add_rule(refuse, "setpriority", seccomp.Arg(1, seccomp.NE, 0))
    # futimens() passes no path, and a file that is open may be changed
    rules.add_rule(refuse, "utimensat", seccomp.Arg(1, seccomp.NE, 0))
    for name, commands in _SIGNALLING.items():
        for command in commands:
            # the kernel looks at the lower half of the register alone
            half = seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, command)
            rules.add_rule(refuse, name, half)
    # its flags lie in memory, where no filter looks; without it libc takes clone
    with suppress(ValueError, OSError):
        rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    return rules


def _loaded(rules: Any) -> bool:
    try:
        rules.load()
    except (AttributeError, OSError):  # no library, or a kernel without filters
        return False
    return True
