"""What Linux has and macOS lacks, as far as Python shows it. Data only, for tests and sitecustomize."""

from __future__ import annotations

LINUX_ONLY: dict[str, tuple[str, ...]] = {
    "fcntl": ("F_ADD_SEALS", "F_GETPIPE_SZ", "F_NOTIFY", "F_OFD_SETLK", "F_OFD_SETLKW", "F_SETPIPE_SZ"),
    "os": (
        "O_DIRECT", "O_LARGEFILE", "O_NOATIME", "O_PATH", "O_RSYNC", "O_TMPFILE", "RTLD_DEEPBIND",
        "SCHED_BATCH", "SCHED_IDLE", "SCHED_RESET_ON_FORK", "copy_file_range", "eventfd", "fdatasync",
        "getrandom", "getresgid", "getresuid", "getxattr", "listxattr", "memfd_create", "pidfd_open", "pipe2",
        "posix_fadvise", "posix_fallocate", "removexattr", "sched_getaffinity", "sched_getparam",
        "sched_getscheduler", "sched_param", "sched_rr_get_interval", "sched_setaffinity", "sched_setparam",
        "sched_setscheduler", "setns", "setresgid", "setresuid", "setxattr", "splice", "unshare",
    ),
    "resource": ("RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_SIGPENDING", "prlimit"),
    "select": ("epoll",),
    "signal": (
        "SIGCLD", "SIGPOLL", "SIGPWR", "SIGRTMAX", "SIGRTMIN", "SIGSTKFLT", "pidfd_send_signal",
        "sigtimedwait", "sigwaitinfo",
    ),
    "socket": (
        "AF_ALG", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_BINDTODEVICE",
        "SO_DOMAIN", "SO_MARK", "SO_PASSCRED", "SO_PEERCRED", "SO_PEERSEC", "SO_PROTOCOL",
    ),
    "time": ("CLOCK_BOOTTIME", "CLOCK_TAI", "pthread_getcpuclockid"),
}  # fmt: skip
"""By module of the standard library."""
