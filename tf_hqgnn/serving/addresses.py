"""Names of hosts: which addresses a server listens on, and which names reach this machine only."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Iterable

from tf_hqgnn.types import InputError

_WILDCARDS = ("0.0.0.0", "::")
# Clients wait here until they are accepted: few, so that a server that is full says so soon.
_BACKLOG = 128


def resolve(host: str) -> list[str]:
    """The numeric addresses that `host` stands for, each once; both ports of a server listen on all of them.

    gRPC listens on both families wherever it is told to listen on all addresses of one, and so REST does, too.

    Raises:
      InputError: The name can't be resolved.

    >>> resolve("127.0.0.1")
    ['127.0.0.1']
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(f"--host {host}: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if any(address in _WILDCARDS for address in addresses):
        return ["::" if has_ipv6() else "0.0.0.0"]
    # localhost stands for ::1 in many hosts files although IPv6 is off.
    return [address for address in addresses if ":" not in address or has_ipv6()] or addresses


def listen(addresses: Iterable[str], port: int, what: str = "REST", option: str = "--rest-port") -> list[socket.socket]:
    """Open sockets that listen on one port of every address; port 0 picks one that is free on the first.

    Args:
      addresses: Numeric addresses of this machine.
      port: From 0 to 65535.
      what: What is served there, as an error names it.
      option: Of the command line, by which another port is chosen.

    Raises:
      InputError: The port is in use, or an address isn't this machine's.
    """
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets.append(_listen(address, port, what, option))
            port = sockets[-1].getsockname()[1]
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def url_host(host: str) -> str:
    """`host` as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback_host(host: str) -> bool:
    """Whether a name or address, without port and brackets, can only mean the machine that asks.

    >>> [is_loopback_host(host) for host in ("localhost", "127.9.9.9", "::1", "0.0.0.0", "localhost.example")]
    [True, True, True, False, False]
    """
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return bool((getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback)


@dataclass(frozen=True)
class AllowedHosts:
    """The names by which clients may call a server.

    A web page can have its own name resolve to 127.0.0.1 and read what it asks for under that name (DNS rebinding).
    So the Host header, which a page can't forge, must name this machine where only this machine should be served.

    Args:
      names: Host names without port, in any case; those of the loopback interface are always allowed beside them.
      any_host: Allow every name.
    """

    names: frozenset[str] = field(default_factory=frozenset)
    any_host: bool = False

    @classmethod
    def of(cls, names: Iterable[str], addresses: Iterable[str]) -> AllowedHosts:
        """The given names; without any, loopback names if all `addresses` are loopback ones, else every name.

        Raises:
          InputError: A name isn't a plain host name or address.
        """
        allowed = frozenset(name.strip("[]").rstrip(".").lower() for name in names)
        for name in allowed:
            if not re.fullmatch(r"[\w.%-]+|[0-9a-f:.%]+", name):
                raise InputError(f"--allowed-hosts: expected host names without scheme and port, got {name!r}")
        return cls(allowed, any_host=not allowed and not all(map(is_loopback_host, addresses)))

    def allows(self, host: str) -> bool:
        """Whether a Host header, or the authority of a URL, is allowed.

        >>> AllowedHosts(frozenset({"recommend.example"})).allows("Recommend.Example.:8501")
        True
        >>> AllowedHosts().allows("evil.example:8501")
        False
        """
        if self.any_host:
            return True
        match = re.fullmatch(r"\[([^\]]*)\](?::\d*)?|([^:]*)(?::\d*)?", host.strip())
        if match is None:
            return False
        name = (match[1] or match[2] or "").rstrip(".").lower()
        return name in self.names or is_loopback_host(name)


def _listen(address: str, port: int, what: str, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address not in _WILDCARDS))
        opened.bind((address.partition("%")[0], port, 0, _scope(address)) if ":" in address else (address, port))
        # Binding alone doesn't clash with a port that another process has bound and not opened yet.
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{what} on {url_host(address)}:{port}: {reason}; choose another port with {option}"
        ) from error
    return opened


def _scope(address: str) -> int:
    """The number of the interface behind the % of a link-local address, else 0."""
    name = address.partition("%")[2]
    return int(name) if name.isdigit() else socket.if_nametoindex(name) if name else 0


def has_ipv6() -> bool:
    """Whether this machine's loopback interface speaks IPv6."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
