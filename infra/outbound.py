"""Calls to addresses that users name: never to anything but the public internet, unless a setting allows it.

A name is resolved once, every address it has is judged, and only those are connected to,
so that no second answer of a DNS server (rebinding) and no other parser's view of the URL counts. Redirects
are followed here, each judged like the first. Must never put a URL into an error: its query may be a key.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, urljoin, urlsplit

import urllib3

URL_CHARS_MAX = 8192
REDIRECTS_MAX = 5
TIMEOUT = urllib3.Timeout(connect=5, read=30)

_PORTS = {"http": 80, "https": 443}
_PRIVATE_NAMES = ("internal", "flycast", "local", "localhost", "localdomain", "home.arpa")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})?(\.[a-z0-9_]([a-z0-9_-]{0,62})?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_GLOBAL_6 = IPv6Network("2000::/3")  # all that IANA has given out; NAT64, v4-mapped and ULAs are outside
_NOT_GLOBAL = [
    ip_network(net)
    for net in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.0.0.0/24",  # protocol assignments
    )
]

Address = IPv4Address | IPv6Address
Body = Callable[[], Iterable[bytes]]


class Forbidden(Exception):
    """This address must not be called. The message says why, for who named it; it holds no URL."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A URL taken apart, once: what is judged is what is called."""

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
        """What the Host header says: the port only when it is not the scheme's own."""
        return _bracketed(self.host) if self.port == _PORTS[self.scheme] else self.place


# --- the rules. PURE ----------------------------------------------------------------------------------


def target(url: str, *, allow: Collection[str] = ()) -> Target:
    """Return the URL taken apart, unless its own letters forbid it already. Raises Forbidden.

    `allow` holds `host:port` of what may be called although it is private.
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
    """Tell whether the address is one of the public internet: global, not multicast, nothing in disguise."""
    if not address.is_global or address.is_multicast or any(address in net for net in _NOT_GLOBAL):
        return False
    return address.version == 4 or address in _GLOBAL_6


def _host(host: str) -> str:
    """Return the host in lower-case ASCII, as DNS is asked for it. Raises Forbidden for what is none."""
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
    """Raise Forbidden for a host that is private by its letters: nobody needs to be asked."""
    last = host.rpartition(".")[2]
    if ":" in host or _NUMBER.fullmatch(last):
        if not _is_address(host):  # 127.1, 0177.0.0.1, 0x7f000001, 2130706433: programs disagree on these
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
    return Forbidden("This address is not on the public internet, and OUTBOUND_ALLOW does not name it.")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# --- the calls ----------------------------------------------------------------------------------------


@contextmanager
def request(
    method: str,
    url: str,
    *,
    allow: Collection[str],
    headers: Mapping[str, str],
    body: Body | None = None,
    redirects_max: int = REDIRECTS_MAX,
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield the answer that the URL gives in the end, its body unread.

    `body` is called for each try. A redirect that would change the method is an answer, not followed.
    Raises Forbidden, and urllib3's HTTPError when nobody answers.
    """
    for _ in range(redirects_max + 1):
        found = target(url, allow=allow)
        with _one(method, found, allow, headers, body) as answer:
            location = answer.headers.get("Location")
            if not location or not _is_followed(method, answer.status):
                yield answer
                return
            url = urljoin(f"{found.scheme}://{found.place}{found.path}", location)
    raise Forbidden("The address redirects too often.")


def _is_followed(method: str, status: int) -> bool:
    return status in (307, 308) or (method in ("GET", "HEAD") and status in (301, 302, 303))


@contextmanager
def _one(
    method: str, found: Target, allow: Collection[str], headers: Mapping[str, str], body: Body | None
) -> Iterator[urllib3.BaseHTTPResponse]:
    addresses = resolve(found, allow=allow)
    for tried, address in enumerate(addresses, 1):
        with _pool(found, address) as pool:
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
                yield answer
            finally:
                answer.close()
            return


def resolve(found: Target, *, allow: Collection[str]) -> list[str]:
    """Return the addresses of the target, asked for once. Raises Forbidden when any of them is not public.

    Raises urllib3's NameResolutionError when the name has none.
    """
    try:
        infos = socket.getaddrinfo(found.host, found.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        pool = urllib3.connection.HTTPConnection(found.host)
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise urllib3.exceptions.NameResolutionError(found.host, pool, reason) from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    if found.place not in allow and not all(is_public(ip_address(address)) for address in addresses):
        raise _private()
    return addresses


def _pool(found: Target, address: str) -> urllib3.HTTPConnectionPool:
    """Return a pool for one connection to the address that was judged, which proves to be the named host."""
    if found.scheme == "http":
        return urllib3.HTTPConnectionPool(address, found.port, timeout=TIMEOUT, retries=False)
    return urllib3.HTTPSConnectionPool(
        address,
        found.port,
        timeout=TIMEOUT,
        retries=False,
        server_hostname=found.host,  # the name that is asked for (SNI)
        assert_hostname=found.host,  # and that the certificate must be of
    )
