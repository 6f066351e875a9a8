"""Calls to users' URLs: the rules on a table of hostile URLs, and real connections for the rest."""

from __future__ import annotations

import itertools
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
import urllib3

from infra import outbound
from infra.outbound import Forbidden, is_public, request, target
from tests.support.foreign import served
from tests.support.programs import need

HOSTILE = [
    # loopback and unspecified, in every spelling
    "http://127.0.0.1/",
    "http://127.8.8.8:8080/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://sub.localhost/",
    "http://127.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://１２７.０.０.１/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    # private, link-local, shared, reserved, multicast
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://192.0.2.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    # Fly's own
    "http://_api.internal:4280/v1/apps",
    "http://web.internal./",
    "http://WEB.Flycast/",
    "http://[fdaa:0:1::3]/",
    "http://[fdaa::3]:4280/v1",
    # what is no web address, or hides one
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "//example.com/",
    "example.com/video.mp4",
    "",
    "http://",
    "http:///video.mp4",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://exa mple.com/",
    "http://example.com/\r\nHost: evil",
    "http://example.com/\t",
    "http://exam%70le.com/",
    "http://example..com/",
    "http://.example.com/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:80:90/",
    "http://example.com:x/",
    "http://[1.2.3.4]/",
    "http://[::1/",
    "http://256.1.1.1/",
    "http://1.2.3/",
    "http://1.1.1.1.1/",
    "http://0x/",
    "http://" + "a" * 64 + ".com/",
    "http://example.com/" + "a" * outbound.URL_CHARS_MAX,
    "http://\ud800.com/",
]


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: ascii(url)[:50])
def test_a_hostile_url_is_forbidden_by_its_letters(url: str) -> None:
    with pytest.raises(Forbidden) as refused:
        target(url)
    assert url == "" or url not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://example.com", "example.com", 443, "/"),
        (
            "HTTP://Example.COM:8080/a/b.mp4?sig=a%2Fb&x=[1]#t",
            "example.com",
            8080,
            "/a/b.mp4?sig=a%2Fb&x=[1]",
        ),
        (
            "https://münchen.example/ä b.mp4".replace(" ", "%20"),
            "xn--mnchen-3ya.example",
            443,
            "/%C3%A4%20b.mp4",
        ),
        ("http://example.com./x", "example.com", 80, "/x"),
        ("http://1.1.1.1/", "1.1.1.1", 80, "/"),
        ("http://[2606:4700:4700::1111]:81/", "2606:4700:4700::1111", 81, "/"),
        ("http://10.example.com/", "10.example.com", 80, "/"),
        ("http://internal.example.com/", "internal.example.com", 80, "/"),
        ("https://my_bucket.s3.example.com/", "my_bucket.s3.example.com", 443, "/"),
        ("http://example.com//evil.test/x", "example.com", 80, "//evil.test/x"),
    ],
)
def test_a_public_url_is_taken_apart(url: str, host: str, port: int, path: str) -> None:
    found = target(url)
    assert (found.host, found.port, found.path) == (host, port, path)


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://127.0.0.1:9000/x", "127.0.0.1:9000"),
        ("http://files.internal:8080/x", "files.internal:8080"),
        ("http://[fdaa::3]/x", "[fdaa::3]:80"),
        ("https://localhost/x", "localhost:443"),
    ],
)
def test_what_the_setting_names_may_be_called_and_nothing_beside_it(url: str, allow: str) -> None:
    assert target(url, allow={allow}).place == allow
    with pytest.raises(Forbidden):
        target(url, allow={allow.replace(":", ":1", 1) if "[" not in allow else "[fdaa::3]:81"})


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2a00:1450:4001::1", True),
        ("192.88.99.1", False),
        ("192.0.0.9", False),
        ("2001:2::1", False),
        ("3fff::1", False),
        ("64:ff9b::808:808", False),
        ("::ffff:8.8.8.8", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


# --- connections --------------------------------------------------------------------------------------


def got(url: str, *allow: str, within_s: float = 60) -> bytes:
    with request("GET", url, allow=allow, headers={}, within_s=within_s) as answer:
        assert answer.status == 200
        return answer.read()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("hops", [1, outbound.REDIRECTS_MAX])
def test_redirects_are_followed_as_far_as_is_sane(status: int, hops: int) -> None:
    with served() as server:
        for hop in range(hops):
            server.answers[f"/{hop}"] = (status, {"Location": f"{hop + 1}"}, b"")
        server.answers[f"/{hops}"] = (200, {}, b"video")
        assert got(f"http://{server.place}/0", server.place) == b"video"


def test_a_redirect_without_end_fails() -> None:
    with served() as server:
        server.answers["/"] = (302, {"Location": "/"}, b"")
        with pytest.raises(Forbidden, match="too often"):
            got(f"http://{server.place}/", server.place)
        assert len(server.seen) == outbound.REDIRECTS_MAX + 1


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.1:{port}/canary",
        "http://localhost:{port}/",
        "//0x7f000001:{port}/",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_what_is_private_is_not_followed(to: str) -> None:
    with served() as server, served() as canary:
        server.answers["/"] = (302, {"Location": to.format(port=canary.server_port)}, b"")
        with pytest.raises(Forbidden):
            got(f"http://{server.place}/", server.place)
        assert canary.seen == []


def test_a_name_with_any_private_address_is_never_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as canary:
        answers = [("8.8.8.8", canary.server_port), ("127.0.0.1", canary.server_port)]
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answer) for answer in answers]
        monkeypatch.setattr(outbound.socket, "getaddrinfo", lambda *_, **__: infos)
        with pytest.raises(Forbidden):
            got(f"http://video.test:{canary.server_port}/")
        assert canary.seen == []


def test_a_name_that_is_rebound_after_the_check_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer counts as public here; every later one is a server that must not be reached."""
    with served("127.0.0.2") as server, served("127.0.0.1", server.server_port) as canary:
        server.answers["/v.mp4"] = (200, {}, b"video")
        asked: list[str] = []

        def rebinding(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
            asked.append(host)
            address = host if host[0].isdigit() else ("127.0.0.2" if asked == ["video.test"] else "127.0.0.1")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(outbound.socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(outbound, "is_public", lambda address: str(address) == "127.0.0.2")
        assert got(f"http://video.test:{server.server_port}/v.mp4") == b"video"
        assert asked.count("video.test") == 1
        assert [seen[2] for seen in server.seen] == [f"video.test:{server.server_port}"]
        with pytest.raises(Forbidden):  # the next call asks anew, and is judged anew
            got(f"http://video.test:{server.server_port}/v.mp4")
        assert canary.seen == []


def test_the_next_address_is_tried_when_the_first_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with served("127.0.0.2") as server:
        server.answers["/"] = (200, {}, b"video")
        monkeypatch.setattr(outbound, "resolve", lambda *_, **__: ["127.0.0.3", "127.0.0.2"])
        assert got(f"http://video.test:{server.server_port}/", f"video.test:{server.server_port}") == b"video"


@contextmanager
def trickling(answer: bytes) -> Iterator[str]:
    """A server that gives the answer, and then a byte every 50 ms, for ever."""
    is_over = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(answer)
            while not is_over.wait(0.05):
                connection.sendall(b"a")

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=trickle, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        is_over.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 307 Over there\r\nLocation: /",
        b"HTTP/1.1 200 OK\r\n\r\n",  # a body until the end of the connection: cut off, it would look whole
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_no_trickle_of_bytes_moves_the_deadline_of_a_call(answer: bytes) -> None:
    with trickling(answer) as place, pytest.raises(outbound.Late):
        got(f"http://{place}/", place, within_s=0.4)


@pytest.mark.parametrize("answer", [b"", b"\x16\x03\x03\x40\x00"], ids=["nothing", "a record"])
def test_no_trickle_of_bytes_moves_the_deadline_of_tls(answer: bytes) -> None:
    with trickling(answer) as place, pytest.raises(urllib3.exceptions.HTTPError) as failed:
        got(f"https://{place}/", place, within_s=0.4)
    assert answer == b"" or failed.type is outbound.Late


def test_redirects_have_one_deadline_together() -> None:
    with served() as server:
        for hop in range(outbound.REDIRECTS_MAX):
            server.answers[f"/{hop}"] = (302, {"Location": f"{hop + 1}"}, b"")
        server.pause_s = 0.2
        with pytest.raises(outbound.Late):
            got(f"http://{server.place}/0", server.place, within_s=0.5)
        assert len(server.seen) <= 3


def test_a_body_that_is_not_read_is_cut_off_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        endless = itertools.repeat(bytes(1 << 20))
        put = request(
            "PUT", f"http://{place}/", allow=[place], headers={}, body=lambda: endless, within_s=0.4
        )
        with pytest.raises(outbound.Late), put:
            pass


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_after_a_call_nothing_of_it_is_left() -> None:
    with served() as server:
        server.answers["/"] = (200, {}, b"video")
        got(f"http://{server.place}/", server.place)  # what is made once
        threads, files = threading.active_count(), open_files()
        for _ in range(20):
            got(f"http://{server.place}/", server.place)
        deadline = time.monotonic() + 5
        while threading.active_count() > threads and time.monotonic() < deadline:
            time.sleep(0.01)  # the server's own threads
        assert threading.active_count() <= threads
        assert open_files() <= files + 2


def test_a_name_without_an_address_is_an_error_of_the_network() -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        got("http://no-such-name.invalid/")


def test_a_put_keeps_its_method_and_body_over_a_redirect_and_follows_no_other() -> None:
    with served() as server:
        server.answers["/a"] = (307, {"Location": "/b"}, b"")
        server.answers["/b"] = (200, {}, b"")
        server.answers["/c"] = (302, {"Location": "/b"}, b"")
        for path, status in (("/a", 200), ("/c", 302)):
            with request(
                "PUT",
                f"http://{server.place}{path}",
                allow={server.place},
                headers={"Content-Length": "5"},
                body=lambda: iter([b"vid", b"eo"]),
                within_s=60,
            ) as answer:
                assert answer.status == status
        assert [seen[:2] + seen[3:] for seen in server.seen] == [
            ("PUT", "/a", b"video"),
            ("PUT", "/b", b"video"),
            ("PUT", "/c", b"video"),
        ]


def test_https_asks_for_the_name_and_believes_only_its_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    openssl, cert, key = need("openssl"), tmp_path / "cert.pem", tmp_path / "key.pem"
    files = ["-keyout", str(key), "-out", str(cert)]
    name = ["-subj", "/CN=video.test", "-addext", "subjectAltName=DNS:video.test"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *name]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    monkeypatch.setattr(outbound, "resolve", lambda *_, **__: ["127.0.0.1"])
    with served(tls=context) as server:
        server.answers["/"] = (200, {}, b"video")
        url = f"https://video.test:{server.server_port}/"
        with pytest.raises(urllib3.exceptions.SSLError):
            got(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert got(url) == b"video"
        assert asked[-1] == "video.test"
        with pytest.raises(urllib3.exceptions.SSLError):
            got(url.replace("video.test", "other.test"))
