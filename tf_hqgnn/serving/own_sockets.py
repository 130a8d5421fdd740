"""The sockets that gRPC's core holds: it offers no way to refuse, count or close connections.

At the end of a stop it cancels every call that is on its way, and clients don't try cancelled calls again. A connection
that is closed under it has them see UNAVAILABLE. Where there is no /proc, nothing is found and gRPC's way is taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import struct
from typing import Iterator

from tf_hqgnn.serving.open_files import descriptors

_SO_ATTACH_FILTER = 26
# One instruction of the classic Berkeley Packet Filter: return 0, which is to drop the packet.
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)


def count_connections(port: int) -> int:
    """The open TCP connections of this process to its own `port`."""
    return sum(not _listens(found) for found in _sockets(port))


def refuse_connections(port: int) -> None:
    """Has nobody connect to `port` any more, while it stays taken; what is connected stays so."""
    instruction = ctypes.create_string_buffer(_DROP)
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    for found in _sockets(port):
        if _listens(found):
            with contextlib.suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def close_connections(port: int) -> None:
    """Ends the TCP connections to `port`, in both directions."""
    for found in _sockets(port):
        if not _listens(found):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


def _sockets(port: int) -> Iterator[socket.socket]:
    for number in descriptors():
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            copy = os.dup(number)
        except OSError:
            continue  # Closed meanwhile, or no descriptor is left.
        with socket.socket(fileno=copy) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
                with contextlib.suppress(OSError):
                    if found.getsockname()[1] == port:
                        yield found


def _listens(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
