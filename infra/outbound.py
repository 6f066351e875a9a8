"""Calls to addresses that users name: never to anything but the public internet, unless a setting allows it.

A name is resolved once, all its addresses are checked, and only these are connected to. So a second answer of
a DNS server (rebinding) or another parser's reading of the URL has no effect. Redirects are followed here,
and each is checked like the first. A call has a deadline that received bytes do not extend. Must never put a
URL into an error: its query may be a key.

One file, since each part of it is needed for the same promise.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import urllib3

URL_CHARS_MAX = 8192
REDIRECTS_MAX = 5
CONNECT_S_MAX = 5.0  # to one address
SILENCE_S_MAX = 30.0

_PORTS = {"http": 80, "https": 443}
_PRIVATE_NAMES = ("internal", "flycast", "local", "localhost", "localdomain", "home.arpa")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})?(\.[a-z0-9_]([a-z0-9_-]{0,62})?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_GLOBAL_6 = IPv6Network("2000::/3")  # all that IANA has assigned; NAT64, v4-mapped and ULAs are outside
_NOT_GLOBAL = [
    ip_network(net)
    for net in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: it contains an IPv4 address
        "3fff::/20",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.0.0.0/24",  # protocol assignments
    )
]

Address = IPv4Address | IPv6Address
Body = Callable[[], Iterable[bytes]]


class Forbidden(Exception):
    """This address must not be called. The message says why, for the user; it holds no URL."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The parts of a URL. It is parsed once, so the address that is checked is the one that is called."""

    scheme: str
    host: str  # lower-case ASCII without a trailing dot; an IPv6 address without brackets
    port: int
    path: str  # with the query

    @property
    def place(self) -> str:
        """The host and port, as `OUTBOUND_ALLOW` names them."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def host_header(self) -> str:
        """The Host header: it has the port only if that is not the default of the scheme."""
        return _bracketed(self.host) if self.port == _PORTS[self.scheme] else self.place


# --- the rules. PURE ----------------------------------------------------------------------------------


def target(url: str, *, allow: Collection[str] = ()) -> Target:
    """Return the parts of the URL. Raises Forbidden if its text alone is not allowed.

    `allow` holds the `host:port` of private addresses that may be called.
    """
    if len(url) > URL_CHARS_MAX or not url.isprintable() or re.search(r"[\s\\]", url):
        raise Forbidden(f"The URL has spaces, backslashes or more than {URL_CHARS_MAX} characters.")
    try:
        split = urlsplit(url)
        port, host = split.port, split.hostname or ""
    except ValueError:
        raise Forbidden("This is not a valid URL.") from None
    if split.scheme not in _PORTS:
        raise Forbidden("Only http and https URLs are called.")
    if "@" in split.netloc:
        raise Forbidden("A URL with a user name or password is not called.")
    path = quote(split.path or "/", safe="/%:@!$&'()*+,;=~") + (
        "?" + quote(split.query, safe="/?%:@!$&'()*+,;=~[]|") if split.query else ""
    )
    found = Target(
        scheme=split.scheme, host=_host(host), port=_PORTS[split.scheme] if port is None else port, path=path
    )
    if found.port == 0:
        raise Forbidden("This is not a valid URL.")
    if found.place not in allow:
        _judge_host(found.host)
    return found


def is_public(address: Address) -> bool:
    """Return whether the address is public: global, no multicast, without a hidden IPv4 address."""
    if not address.is_global or address.is_multicast or any(address in net for net in _NOT_GLOBAL):
        return False
    return address.version == 4 or address in _GLOBAL_6


def _host(host: str) -> str:
    """Return the host in lower-case ASCII, as for DNS. Raises Forbidden for an invalid one."""
    if ":" in host:
        if "%" in host or not _is_address(host):
            raise Forbidden("This is not a valid URL.")
        return str(ip_address(host))
    try:
        name = host.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        raise Forbidden("This is not a valid URL.") from None
    if not _NAME.fullmatch(name):
        raise Forbidden("This is not a valid URL.")
    return name


def _judge_host(host: str) -> None:
    """Raise Forbidden for a host that is private by its name, without a DNS query."""
    last = host.rpartition(".")[2]
    if ":" in host or _NUMBER.fullmatch(last):
        if not _is_address(
            host
        ):  # 127.1, 0177.0.0.1, 0x7f000001, 2130706433: programs read these differently
            raise Forbidden("An IP address is written as four decimal numbers.")
        if not is_public(ip_address(host)):
            raise _private()
    if any(host == name or host.endswith("." + name) for name in _PRIVATE_NAMES):
        raise _private()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _private() -> Forbidden:
    return Forbidden("This address is not on the public internet. Only public addresses are called.")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# --- the calls ----------------------------------------------------------------------------------------


class Late(urllib3.exceptions.HTTPError):
    """The answer was not complete in time."""


class NoSuchHost(urllib3.exceptions.NameResolutionError):
    """The name certainly has no address: a repeat is of no use."""


@contextmanager
def request(
    method: str,
    url: str,
    *,
    allow: Collection[str],
    headers: Mapping[str, str],
    within_s: float,
    body: Body | None = None,
    redirects_max: int = REDIRECTS_MAX,
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield the last answer after redirects, with its body unread.

    All of it takes at most `within_s`: redirects, connections, TLS, sending, the answer's head, and the
    reading of its body in the block. Only the system's resolver has no limit. `body` is called for each try.
    A redirect that would change the method is an answer, not followed. Raises Forbidden, and urllib3's
    HTTPError without an answer. Raises Late after the deadline, also at the end of the block, since a
    truncated body can look complete.
    """
    with _Deadline(within_s) as deadline:
        for _ in range(redirects_max + 1):
            found = target(url, allow=allow)
            with _one(method, found, allow, headers, body, deadline) as answer:
                location = answer.headers.get("Location")
                if not location or not _is_followed(method, answer.status):
                    yield answer
                    return
                url = urljoin(f"{found.scheme}://{found.place}{found.path}", location)
        raise Forbidden("The address redirects too often.")


class _Deadline:
    """Cuts the connections that it watches when its time is over, even if bytes still arrive.

    A socket's time-out limits each read, so a server that sends a byte now and then never exceeds it.
    """

    def __init__(self, within_s: float) -> None:
        self._until = time.monotonic() + within_s
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._is_over = False
        self._timer = threading.Timer(within_s, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for watched in self._watched:
                watched.close()
            self._watched.clear()
        is_late = self._is_over or time.monotonic() >= self._until  # a socket's own time-out may come first
        if is_late and (kind is None or issubclass(kind, urllib3.exceptions.HTTPError)):
            raise Late("not in time") from None

    def left_s(self) -> float:
        """Return the remaining seconds. Raises Late when there are none."""
        left_s = self._until - time.monotonic()
        if self._is_over or left_s <= 0:
            raise Late("not in time")
        return left_s

    def watch(self, connection: socket.socket) -> None:
        """Watch this connection too. A copy is kept, since TLS replaces the original."""
        with self._lock:
            self._watched.append(connection.dup())
            if self._is_over:
                self._shut()

    def _cut(self) -> None:
        with self._lock:
            self._is_over = True
            self._shut()

    def _shut(self) -> None:
        for watched in self._watched:
            with suppress(OSError):  # it has ended by itself
                watched.shutdown(socket.SHUT_RDWR)


def _is_followed(method: str, status: int) -> bool:
    return status in (307, 308) or (method in ("GET", "HEAD") and status in (301, 302, 303))


@contextmanager
def _one(
    method: str,
    found: Target,
    allow: Collection[str],
    headers: Mapping[str, str],
    body: Body | None,
    deadline: _Deadline,
) -> Iterator[urllib3.BaseHTTPResponse]:
    addresses = resolve(found, allow=allow)
    for tried, address in enumerate(addresses, 1):
        with _pool(found, address, deadline) as pool:
            try:
                answer = pool.urlopen(
                    method,
                    found.path,
                    headers={**headers, "Host": found.host_header},
                    body=body() if body else None,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                )
            except (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.NewConnectionError):
                if tried == len(addresses):
                    raise
                continue
            try:
                deadline.left_s()  # the head from a connection that was cut may look complete
                yield answer
            finally:
                answer.close()
            return


def resolve(found: Target, *, allow: Collection[str]) -> list[str]:
    """Return the addresses of the target by one DNS query. Raises Forbidden if one of them is not public.

    Raises NoSuchHost when the name has none, and urllib3's NameResolutionError when that is not known now.
    """
    try:
        infos = socket.getaddrinfo(found.host, found.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        pool = urllib3.connection.HTTPConnection(found.host)
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        is_certain = reason.errno == socket.EAI_NONAME
        kind = NoSuchHost if is_certain else urllib3.exceptions.NameResolutionError
        raise kind(found.host, pool, reason) from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    if found.place not in allow and not all(is_public(ip_address(address)) for address in addresses):
        raise _private()
    return addresses


def _pool(found: Target, address: str, deadline: _Deadline) -> urllib3.HTTPConnectionPool:
    """Return a pool for one connection to the checked address, whose certificate must be that of the host."""
    timeout = urllib3.Timeout(connect=min(CONNECT_S_MAX, deadline.left_s()), read=SILENCE_S_MAX)
    pool: urllib3.HTTPConnectionPool
    if found.scheme == "http":
        pool = urllib3.HTTPConnectionPool(address, found.port, timeout=timeout, retries=False)
    else:
        pool = urllib3.HTTPSConnectionPool(
            address,
            found.port,
            timeout=timeout,
            retries=False,
            server_hostname=found.host,  # the name that is asked for (SNI)
            assert_hostname=found.host,  # and that the certificate must be of
        )
    pool.ConnectionCls = _watched(pool.ConnectionCls, deadline)
    return pool


def _watched(connection: Any, deadline: _Deadline) -> Any:
    class Watched(connection):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            deadline.watch(made)
            return made

    return Watched
