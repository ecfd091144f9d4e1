"""Which system calls a sandbox may make: an allow-list, so that a call nobody thought of is refused.

A call that is not listed gives ENOSYS, since programs know how to do without a call that an old kernel lacks. A call
that is refused on purpose gives EPERM, so that people see a permission and not a missing kernel. Names that the
installed libseccomp does not know are skipped by crun, and so give ENOSYS too.

Rules with several conditions on one argument do not combine as one would expect, so every rule here has at most one
condition per argument, and a call with several rules is allowed when any of them matches.
"""

from __future__ import annotations

import platform
from typing import Any

from skerry.runtime.container.ioctls import allowed_ioctls

ENOSYS, EPERM, EPROTONOSUPPORT = 38, 1, 93

FILES = """
    access chdir chmod chown chroot close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync flock fstat fstatfs fsync ftruncate
    futimesat getcwd getdents getdents64 lchown link linkat lseek lstat mkdir mkdirat mknod mknodat name_to_handle_at
    newfstatat open openat openat2 read pread64 preadv preadv2 pwrite64 pwritev pwritev2 readahead readlink readlinkat
    readv rename renameat renameat2 rmdir sendfile stat statfs statx symlink symlinkat sync sync_file_range syncfs
    truncate umask unlink unlinkat utime utimensat utimes write writev cachestat file_getattr file_setattr
    fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr
    removexattr setxattr getxattrat setxattrat listxattrat removexattrat
"""
PIPES_AND_EVENTS = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit
    pipe pipe2 poll ppoll pselect6 select signalfd signalfd4 splice tee vmsplice
    timerfd_create timerfd_gettime timerfd_settime
"""
MEMORY = """
    brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
    mmap mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
    set_mempolicy shmat shmctl shmdt shmget
"""
# ptrace and its kin are allowed: strace and gdb need them, the kernel lets them reach only processes of the same
# user namespace with no more capabilities, there is no CAP_SYS_PTRACE, and since Linux 4.8 a tracer cannot step
# around this filter.
PROCESSES = """
    alarm arch_prctl capget capset execve execveat exit exit_group fork vfork getegid geteuid getgid getgroups
    getitimer getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid
    get_robust_list get_thread_area kill landlock_add_rule landlock_create_ruleset landlock_restrict_self pause
    pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease process_vm_readv process_vm_writev ptrace
    restart_syscall riscv_flush_icache rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo seccomp set_robust_list set_thread_area set_tid_address setfsgid
    setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
    setuid sigaltstack tgkill tkill wait4 waitid
"""
SCHEDULING_AND_TIME = """
    adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep futex futex_wait futex_waitv futex_wake
    futex_requeue getcpu gettimeofday ioprio_get ioprio_set nanosleep sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime times
"""
MESSAGES = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
    sendto setsockopt shutdown mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget
    msgrcv msgsnd semctl semget semop semtimedop
"""
ABOUT_THE_SYSTEM = "getrandom sysinfo uname"

REFUSED = """
    acct add_key bpf clock_settime delete_module fanotify_init fanotify_mark finit_module fsconfig fsmount fsopen fspick
    init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl listmount lookup_dcookie migrate_pages mount
    mount_setattr move_mount move_pages open_by_handle_at open_tree open_tree_attr perf_event_open pivot_root
    process_madvise quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday statmount
    swapoff swapon syslog umount2 unshare userfaultfd vhangup
"""
"""Needs a capability nobody here has, reaches what no namespace divides (keys, bpf, perf), or opens much kernel code
to attack for little use (userfaultfd). io_uring and clone3 are left to ENOSYS: their users fall back on that. clone3
because its flags lie in memory, where a filter cannot see them."""

CLONE_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET."""

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_AUDIT = 0, 4, 9
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)
"""Plain, 32-bit, old version number, both, no address randomisation (gdb), and asking which it is."""

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
"""The native one alone: the 32-bit tables would bring socketcall and ipc, whose arguments a filter cannot see."""

Profile = dict[str, Any]


def equals(index: int, value: int) -> dict[str, int | str]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def masked(index: int, mask: int, value: int) -> dict[str, int | str]:
    """argument & mask == value"""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def allow(names: str, *arguments: dict[str, int | str]) -> Profile:
    return {"names": names.split(), "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def profile(machine: str | None = None) -> Profile:
    """The filter in the form of the OCI runtime specification."""
    groups = (FILES, PIPES_AND_EVENTS, MEMORY, PROCESSES, SCHEDULING_AND_TIME, MESSAGES, ABOUT_THE_SYSTEM)
    rules = [
        allow(" ".join(groups)),
        {"names": REFUSED.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM},
        allow("clone", masked(0, CLONE_NEW_NAMESPACES, 0)),
        *(allow("socket", equals(0, family)) for family in (AF_UNIX, AF_INET, AF_INET6)),
        *(allow("socket", equals(0, AF_NETLINK), equals(2, kind)) for kind in (NETLINK_ROUTE, NETLINK_SOCK_DIAG)),
        # As a kernel without auditing answers. useradd, groupadd and login go on after that, and give up after ENOSYS.
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": EPROTONOSUPPORT,
            "args": [equals(0, AF_NETLINK), equals(2, NETLINK_AUDIT)],
        },
        allow("socketpair", equals(0, AF_UNIX)),
        *(allow("personality", equals(0, persona)) for persona in PERSONALITIES),
        *(allow("ioctl", masked(1, cube.mask, cube.value)) for cube in allowed_ioctls()),
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": [ARCHITECTURES[machine or platform.machine()]],
        "syscalls": rules,
    }
