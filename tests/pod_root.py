"""The root folder of a pod: what an image has, read-only, the pod's own and its volumes, and nothing else of a machine.

zygote.py enters it in a fork, so the mounts are gone with the process. Only root on Linux can.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# What an image has besides Python. /proc and /dev are the container engine's.
SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "etc", "proc", "dev", "sys")
_NEW_MOUNTS, _NEW_IPC = 0x20000, 0x8000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18


def enter(root: str, image: list[str], mounts: dict[str, str], uid: int) -> None:
    """Makes this process a pod's: its root folder, its user id, no capability.

    Args:
      root: an empty folder, on which the root folder is made.
      image: folders that are seen read-only, under their own names; besides those of the system and of Python.
      mounts: path in the pod -> folder of this machine that is seen there and can be written.
      uid: the user; its group is 0, as of a container on OpenShift.
    """
    _check(_libc().unshare(_NEW_MOUNTS | _NEW_IPC), "unshare")
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("none", root, "tmpfs", 0)
    for folder in (Path("/", name) for name in SYSTEM):
        if folder.is_symlink():
            Path(root + str(folder)).symlink_to(folder.readlink())
        elif folder.is_dir():
            _bind(str(folder), root + str(folder))
    # Else pods would share it.
    memory = Path(root, "dev", "shm")
    _mount("none", str(memory), "tmpfs", 0)
    memory.chmod(0o1777)
    for path, folder in mounts.items():
        _bind(folder, root + path)
    # After the mounts: a checkout may lie in /tmp, of which a pod has its own.
    for folder in (sys.base_prefix, sys.prefix, *image):
        _bind(folder, root + folder)
        _mount(None, root + folder, None, _BIND | _REMOUNT | _READ_ONLY)
    _mount(None, root, None, _REMOUNT | _READ_ONLY)
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(uid, uid, uid)


def is_possible() -> bool:
    """Whether this user may make pods on this machine."""
    if sys.platform != "linux" or os.getuid() != 0:
        return False
    process = os.fork()
    if not process:
        os._exit(_libc().unshare(_NEW_MOUNTS | _NEW_IPC) != 0 or _libc().mount(b"none", b"/", None, 1 << 18, None) != 0)
    return os.waitpid(process, 0)[1] == 0


def _bind(source: str, target: str) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    _mount(source, target, None, _BIND | _RECURSIVE)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [word.encode() if word is not None else None for word in (source, target, kind)]
    _check(_libc().mount(*encoded, ctypes.c_ulong(flags), None), f"mount {target}")


def _check(answer: int, what: str) -> None:
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
