"""Files over HTTP: what is fetched, and what this machine does not ask for anybody."""

from __future__ import annotations

import datetime
import io
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mmdata.errors import StorageError, UsageError
from mmdata.storage import Access, fetch, path_of, remote_path
from mmdata.storage._http import is_public
from tests.storage.web import Web, serve

HERE = ("127.0.0.1",)


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as served:
        yield served


def test_a_file_of_an_allowed_host_is_fetched(web: Web) -> None:
    web.files["/cup.jpg"] = b"a cup"

    assert fetch(web.url("/cup.jpg"), hosts=HERE) == b"a cup"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "127.1", "[::ffff:127.0.0.1]", "0"]
)
def test_this_machine_is_not_asked_however_it_is_spelt(web: Web, host: str) -> None:
    web.files["/secret"] = b"secret"

    with pytest.raises(StorageError, match="--allow-host"):
        fetch(web.url("/secret", host))

    assert not web.asked


OF_A_NETWORK_OF_ONES_OWN = (
    "10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 240.0.0.1 "
    "192.0.2.1 224.0.0.1 ::1 fe80::1%eth0 fd00::1 fec0::1 ff02::1 ::ffff:10.0.0.1 64:ff9b::a00:1 "
    "2002:7f00:1:: 2001:0:1::1"
)


@pytest.mark.parametrize("address", OF_A_NETWORK_OF_ONES_OWN.split())
def test_an_address_of_a_network_of_ones_own_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_an_address_of_the_whole_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_a_redirect_to_a_machine_of_this_network_is_refused(web: Web) -> None:
    web.files |= {"/a": web.url("/secret", "localhost"), "/secret": b"secret"}

    with pytest.raises(StorageError, match=r"localhost.*is not asked"):
        fetch(web.url("/a"), hosts=HERE)

    assert web.asked == ["/a"]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://a/"])
def test_a_redirect_to_another_scheme_is_refused(web: Web, place: str) -> None:
    web.files["/a"] = place

    with pytest.raises(StorageError, match="is not an http"):
        fetch(web.url("/a"), hosts=HERE)


def test_a_redirect_to_an_allowed_host_is_followed(web: Web) -> None:
    web.files |= {"/a": "/b", "/b": web.url("/c", "localhost"), "/c": b"there"}

    assert fetch(web.url("/a"), hosts=("127.0.0.1", "localhost")) == b"there"


def test_redirects_in_a_circle_end(web: Web) -> None:
    web.files["/a"] = "/a"

    with pytest.raises(StorageError, match="redirected more than 5 times"):
        fetch(web.url("/a"), hosts=HERE)


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server is the attacker's: it says another address each time that it is asked."""
    answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])
    connected: list[tuple[str, int]] = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        address = host if host[0].isdigit() else next(answers)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(place: tuple[str, int], **_: object) -> socket.socket:
        connected.append(place)
        raise PermissionError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(StorageError):
        fetch(web.url("/secret", "rebind.example"))

    assert connected == [("8.8.8.8", web.port)]
    assert not web.asked


def test_one_private_address_of_several_refuses_a_name(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, **_: object) -> list[object]:
        both = ("8.8.8.8", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in both]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(StorageError, match=r"both\.example, at 127\.0\.0\.1"):
        fetch(web.url("/secret", "both.example"))


def test_a_url_with_a_user_name_is_refused(web: Web) -> None:
    with pytest.raises(StorageError, match="user name"):
        fetch(f"http://8.8.8.8@127.0.0.1:{web.port}/a", hosts=HERE)


@pytest.mark.parametrize("sizes", [True, False])
def test_a_file_beyond_the_limit_is_not_fetched_whole(web: Web, sizes: bool) -> None:
    web.files["/large"], web.sizes = bytes(1 << 22), sizes

    with pytest.raises(StorageError, match="larger than 1000 bytes"):
        fetch(web.url("/large"), hosts=HERE, max_bytes=1000)


@pytest.mark.parametrize("sizes", [True, False])
def test_a_server_that_drips_is_left_after_the_time_limit(
    web: Web, sizes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.storage._http._TRIES", 1)
    web.files["/slow"], web.drip, web.sizes = bytes(1000), 0.05, sizes
    started = time.monotonic()

    with pytest.raises(StorageError, match=r"not done within 0\.2 seconds"):
        fetch(web.url("/slow"), hosts=HERE, seconds=0.2)

    assert time.monotonic() - started < 5


def test_a_server_that_fails_now_and_then_is_asked_again(web: Web) -> None:
    web.files["/a"], web.failures = b"there", 2

    assert fetch(web.url("/a"), hosts=HERE) == b"there"
    assert len(web.asked) == 3


def test_a_body_that_was_cut_is_fetched_again(web: Web) -> None:
    web.files["/a"], web.cut = b"0123456789", 1

    assert fetch(web.url("/a"), hosts=HERE) == b"0123456789"


def test_what_is_not_there_is_said_with_the_status(web: Web) -> None:
    with pytest.raises(StorageError, match="/none: HTTP 404") as caught:
        fetch(web.url("/none"), hosts=HERE)

    assert caught.value.status == 404
    assert len(web.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_path_reads_a_file_in_pieces_from_any_place(web: Web, ranges: bool) -> None:
    data = bytes(range(256)) * 4000
    web.files["/data"], web.ranges = data, ranges
    path = remote_path(web.url("/data"), Access(remote=True, hosts=HERE))

    with path.open("rb", buffering=0) as file:
        file.seek(-1000, io.SEEK_END)
        end = file.read(1000)
        file.seek(70_000)
        middle = file.read(10)

    assert (end, middle) == (data[-1000:], data[70_000:70_010])
    assert web.sent < 200_000 or not ranges
    assert path.stat().st_size == len(data)


def test_a_range_of_a_file_whose_size_is_not_told_is_not_taken_for_the_file(web: Web) -> None:
    data = bytes(range(256)) * 4
    web.files["/data"], web.wholes = data, False
    path = remote_path(web.url("/data"), Access(remote=True, hosts=HERE))

    assert path.stat().st_size == len(data)
    assert path.read_bytes() == data


def test_a_file_that_changes_while_it_is_read_is_refused(web: Web) -> None:
    web.files["/data"] = bytes(100_000)
    path = remote_path(web.url("/data"), Access(remote=True, hosts=HERE))

    with path.open("rb", buffering=0) as file:
        file.read(10)
        web.etag = '"2"'
        file.seek(90_000)
        with pytest.raises(StorageError, match="another file has taken its place"):
            file.read(10)


def test_a_url_of_a_call_is_refused_where_it_is_not_allowed() -> None:
    with pytest.raises(UsageError, match="--allow-remote"):
        path_of("https://example.org/a.json", "source")


def certify(name: str, folder: Path) -> Path:
    """Return a file with a key and a certificate of its own for a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(
    ("certified", "trusted", "reached"),
    [("localhost", True, True), ("localhost", False, False), ("other.example", True, False)],
)
def test_a_server_is_held_to_its_certificate(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certified: str,
    trusted: bool,
    reached: bool,
) -> None:
    file = certify(certified, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))

    with serve(context) as web:
        web.files["/a"] = b"over TLS"
        url = f"https://localhost:{web.port}/a"
        if reached:
            assert fetch(url, hosts=("localhost",)) == b"over TLS"
            return
        with pytest.raises(StorageError, match=r"certificate|Hostname mismatch"):
            fetch(url, hosts=("localhost",))
        assert not web.asked
