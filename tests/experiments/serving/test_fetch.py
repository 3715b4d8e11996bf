"""URLs that must not be reached are refused, and what is fetched has an end."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from experiments.serving.addresses import FetchError, is_public, parse_url
from experiments.serving.fetch import FetchLimits, fetch_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"),)

#: What a hostile resolver answers, by name.
NAMES = {
    "private.example.com": ["10.0.0.5"],
    "loopback.example.com": ["127.0.0.1"],
    "metadata.example.com": ["169.254.169.254"],
    "mixed.example.com": ["93.184.216.34", "192.168.1.1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "compatible.example.com": ["::127.0.0.1"],
    "nat64.example.com": ["64:ff9b::7f00:1"],
    "localnat64.example.com": ["64:ff9b:1::a00:1"],
    "sixtofour.example.com": ["2002:7f00:1::"],
    "teredo.example.com": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "ula.example.com": ["fd00:ec2::254"],
    "linklocal6.example.com": ["fe80::1"],
    "zone.example.com": ["fe80::1%eth0"],
    "multicast.example.com": ["224.0.0.1"],
    "multicast6.example.com": ["ff02::1"],
    "cgnat.example.com": ["100.64.0.1"],
    "cloudmeta.example.com": ["100.100.100.200"],
    "wire.example.com": ["168.63.129.16"],
    "broadcast.example.com": ["255.255.255.255"],
    "zero.example.com": ["0.0.0.0"],
    "loopback6.example.com": ["::1"],
    "unspecified6.example.com": ["::"],
    "documentation.example.com": ["2001:db8::1"],
    "benchmark.example.com": ["198.18.0.1"],
    "noaddress.example.com": [],
    "garbage.example.com": ["not an address"],
}
REFUSED = [
    *(f"https://{name}/v.mp4" for name in NAMES),
    # other schemes
    "http://93.184.216.34/v.mp4",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://example.com/v.mp4",
    "gopher://127.0.0.1:6379/_INFO",
    "data:video/mp4;base64,AAAA",
    "dict://127.0.0.1:11211/stat",
    "concat:https://example.com/a|/etc/passwd",
    "jar:https://example.com!/a",
    "//example.com/v.mp4",
    "/etc/passwd",
    "",
    "https:",
    "https:///v.mp4",
    "https:example.com",
    # numbers
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://127.0.0.1./",
    "https://169.254.169.254/latest/meta-data/",
    "https://999.1.1.1/",
    "https://1.1.1.256/",
    # IPv6
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:169.254.169.254]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[fd00::1]/",
    "https://[ff02::1]/",
    "https://[v1.127.0.0.1]/",
    "https://[::1/",
    # credentials and confusion of parsers
    "https://user:secret@example.com/v.mp4",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com#@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https://example.com%00.evil.com/",
    "https://example.com%2f@127.0.0.1/",
    "https://127%2e0%2e0%2e1/",
    "https://exa mple.com/",
    " https://example.com/",
    "https://example.com/v.mp4\r\nX-Injected: 1",
    "https://exam\tple.com/",
    "https://example.com/\x00",
    "https://example.com/%zz",
    # look-alikes
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://ex\u0430mple.com/",
    # names
    "https://localhost/",
    "https://LOCALHOST/",
    "https://intranet/",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://printer.local/",
    "https://a.localhost/",
    "https://router.home.arpa/",
    "https://example.com./",
    "https://example..com/",
    "https://-example.com/",
    "https://" + "a" * 64 + ".com/",
    "https://example.com/" + "a" * 3000,
    # ports
    "https://example.com:22/",
    "https://example.com:6379/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:+443/",
    "https://example.com:443:443/",
    "https://example.com:/",
]


def hostile(host: str, port: int) -> list[str]:
    return NAMES[host]


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note every connection; those to loopback alone are made."""
    made: list[Any] = []
    connect = socket.create_connection

    def noted(address: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(address)
        return connect(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", noted)
    return made


@pytest.mark.parametrize("url", REFUSED)
def test_battery_is_refused_without_a_connection(
    url: str, tmp_path: Path, no_connection: list[Any]
) -> None:
    with pytest.raises(FetchError) as caught:
        fetch_video(url, tmp_path, resolve=hostile)
    assert "\n" not in str(caught.value)
    assert not no_connection
    assert not list(tmp_path.iterdir())


def test_battery_is_large_enough() -> None:
    assert len(set(REFUSED)) >= 100


@pytest.mark.parametrize(
    "url", ["https://example.com/v.mp4?a=b&c=%20", "https://EXAMPLE.com:8443", "https://1.1.1.1/"]
)
def test_ordinary_urls_are_taken(url: str) -> None:
    target = parse_url(url, ("https",), (443, 8443))
    assert target.host in ("example.com", "1.1.1.1")
    assert target.target.startswith("/")


def test_standard_library_agrees_on_what_is_not_global() -> None:
    for text in ("10.1.2.3", "100.64.1.1", "192.0.0.8", "fc00::1", "fec0::1", "100::1", "5f00::1"):
        assert not is_public(ipaddress.ip_address(text)), text
    for text in ("8.8.8.8", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"):
        address = ipaddress.ip_address(text)
        assert address.is_global
        assert is_public(address), text


class Host(BaseHTTPRequestHandler):
    """Answers by path."""

    routes: dict[str, Callable[[Host], None]]

    def do_GET(self) -> None:
        try:
            self.routes[self.path](self)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(
    routes: dict[str, Callable[[Host], None]], tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, FetchLimits]]:
    handler = type("Handler", (Host,), {"routes": routes})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    port = server.server_port
    limits = FetchLimits(
        schemes=("http", "https"), ports=(port,), max_bytes=1000, total_s=1.0, allowed=LOOPBACK
    )
    try:
        yield f"http://127.0.0.1:{port}", limits
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ok(host: Host) -> None:
    host.reply(200, {"Content-Length": "5"}, b"video")


def to(location: str) -> Callable[[Host], None]:
    return lambda host: host.reply(302, {"Location": location, "Content-Length": "0"})


def test_fetches_a_file_over_redirects(tmp_path: Path) -> None:
    routes: dict[str, Callable[[Host], None]] = {"/v": ok, "/a": to("b/c?d=1")}
    with serving(routes) as (url, limits):
        routes["/b/c?d=1"] = to(f"//127.0.0.1:{limits.ports[0]}/v#t=1")
        found = fetch_video(f"{url}/a", tmp_path, limits)
    assert found.read_bytes() == b"video"
    assert [p.name for p in tmp_path.iterdir()] == [found.name]


@pytest.mark.parametrize(
    "location",
    [
        "https://10.0.0.1/",
        "http://192.168.0.1:{port}/",
        "http://[::1]:{port}/",
        "http://0x7f000001:{port}/v",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
        "data:video/mp4,a",
        "http://127.0.0.1:22/",
        "http://user@127.0.0.1:{port}/v",
        "http://127.0.0.1:{port}\\@example.com/",
        "/v v",
        "/a",
        "",
    ],
)
def test_redirects_are_checked_anew(
    location: str, tmp_path: Path, no_connection: list[Any]
) -> None:
    routes: dict[str, Callable[[Host], None]] = {"/v": ok}
    with serving(routes) as (url, limits):
        routes["/a"] = to(location.format(port=limits.ports[0]))
        with pytest.raises(FetchError):
            fetch_video(f"{url}/a", tmp_path, limits)
    assert {address for address in no_connection} == {("127.0.0.1", limits.ports[0])}
    assert not list(tmp_path.iterdir())


def test_downgrade_to_http_is_refused() -> None:
    with pytest.raises(FetchError, match="must begin with https"):
        parse_url("http://example.com/", ("https",), (80, 443))


def test_resolver_is_asked_once_and_its_answer_is_pinned(
    tmp_path: Path, no_connection: list[Any]
) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    with serving({"/v": ok}) as (_, limits):
        port = limits.ports[0]
        found = fetch_video(
            f"http://rebind.example.com:{port}/v", tmp_path, limits, resolve=rebinding
        )
        assert asked == ["rebind.example.com"]
        assert no_connection == [("127.0.0.1", port)]
        assert found.read_bytes() == b"video"
        # a redirect to the same name resolves again, and meets the second answer
        with pytest.raises(FetchError, match="public"):
            fetch_video(f"http://rebind.example.com:{port}/v", tmp_path, limits, resolve=rebinding)
    assert no_connection == [("127.0.0.1", port)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate of video.example.com that signs itself, with its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "video.example.com")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("video.example.com")]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    unlocked = serialization.NoEncryption()
    pkcs8, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, pkcs8, unlocked))
    return path


@pytest.mark.parametrize("name", ["video.example.com", "other.example.com"])
def test_the_name_is_proven_not_the_address(name: str, certificate: Path, tmp_path: Path) -> None:
    ours, theirs = (
        ssl.create_default_context(cafile=certificate),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    theirs.load_cert_chain(certificate)
    with serving({"/v": ok}, theirs) as (url, limits):
        url = url.replace("http://127.0.0.1", f"https://{name}") + "/v"
        given: dict[str, Any] = {"resolve": lambda *_: ["127.0.0.1"], "ssl_context": ours}
        if name == "video.example.com":
            assert fetch_video(url, tmp_path, limits, **given).read_bytes() == b"video"
        else:
            with pytest.raises(FetchError, match="does not prove its name"):
                fetch_video(url, tmp_path, limits, **given)


def drip(host: Host) -> None:
    host.reply(200, {"Content-Length": "900"})
    while True:
        host.wfile.write(b"x")
        host.wfile.flush()
        time.sleep(0.05)


def drip_headers(host: Host) -> None:
    host.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    drip(host)


def endless(host: Host) -> None:
    host.reply(200, {})
    while True:
        host.wfile.write(b"x" * 65536)


def endless_headers(host: Host) -> None:
    host.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        host.wfile.write(b"X-Much: " + b"x" * 1000 + b"\r\n")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (drip, "fetch_failed"),
        (drip_headers, "fetch_failed"),
        (endless, "too_large"),
        (endless_headers, "fetch_failed"),
        (lambda host: host.reply(200, {"Content-Length": "5000"}, b"x" * 5000), "too_large"),
        (lambda host: host.reply(200, {"Content-Length": "9" * 30}), "fetch_failed"),
        (lambda host: host.reply(200, {"Content-Length": "500"}, b"short"), "fetch_failed"),
        (lambda host: host.reply(200, {"Content-Length": "-5"}, b"x"), "fetch_failed"),
        (lambda host: host.reply(200, {"Content-Length": "0"}), "fetch_failed"),
        (lambda host: host.reply(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "fetch_failed"),
        (lambda host: host.reply(200, {"Content-Type": "text/html"}, b"<p>"), "fetch_failed"),
        (lambda host: host.reply(404, {"Content-Length": "0"}), "fetch_failed"),
        (lambda host: host.reply(206, {"Content-Length": "1"}, b"x"), "fetch_failed"),
        (lambda host: host.wfile.write(b"no http at all\r\n\r\n"), "fetch_failed"),
        (lambda host: host.connection.close(), "fetch_failed"),
    ],
)
def test_every_fetch_ends(answer: Callable[[Host], None], code: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with serving({"/v": answer}) as (url, limits):
        with pytest.raises(FetchError) as caught:
            fetch_video(f"{url}/v", tmp_path, limits)
        assert time.monotonic() - start < 20
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_lying_length_cuts_the_rest(tmp_path: Path) -> None:
    def longer(host: Host) -> None:
        host.reply(200, {"Content-Length": "5"}, b"video" + b"x" * 900)

    with serving({"/v": longer}) as (url, limits):
        assert fetch_video(f"{url}/v", tmp_path, limits).read_bytes() == b"video"


def test_slow_resolver_counts(tmp_path: Path) -> None:
    limits = FetchLimits(total_s=0.2)
    answer = threading.Event()
    start = time.monotonic()
    with pytest.raises(FetchError, match="in time"):
        fetch_video(
            "https://slow.example.com/",
            tmp_path,
            limits,
            resolve=lambda *_: answer.wait(30) and [],
        )
    took = time.monotonic() - start
    answer.set()
    assert took < 20


def test_proxies_of_the_environment_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving({"/v": ok}) as (url, limits):
        assert fetch_video(f"{url}/v", tmp_path, limits).read_bytes() == b"video"


def test_cancelling_ends_the_fetch(tmp_path: Path) -> None:
    with serving({"/v": drip}) as (url, limits), pytest.raises(FetchError, match="cancelled"):
        fetch_video(f"{url}/v", tmp_path, limits, cancelled=lambda: True)
    assert not list(tmp_path.iterdir())
