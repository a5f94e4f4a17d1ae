from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from actors.contracts.errors import HeadraceError
from actors.http.egress import Answer, Egress, EgressError, EgressRefused, Resolve, is_public, networks
from actors.runtime.settings import Settings

LOOPBACK = networks("127.0.0.0/8")


class Site:
    """A server on loopback that answers every request with the same bytes, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        self.asked: list[bytes] = []
        self.closes = True
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await writer.drain()
        if self.closes:
            writer.close()


@asynccontextmanager
async def a_site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()


def answers(*rounds: Sequence[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives another answer each time, and the names that it was asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return rounds[min(len(asked), len(rounds)) - 1]

    return resolve, asked


class Connects(httpcore.AsyncNetworkBackend):
    """Notes where connections are to be made to, and makes none."""

    def __init__(self) -> None:
        self.to: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.to.append(host)
        raise httpcore.ConnectError("nobody there")


@pytest.mark.parametrize("ip", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_these_are_of_the_internet(ip: str) -> None:
    assert is_public(ipaddress.ip_address(ip))


INSIDE = [
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "fc00::1", "fd12:3456::1"),  # private
    *("127.0.0.1", "127.8.8.8", "::1"),  # loopback
    *("169.254.169.254", "fe80::1"),  # link-local, where clouds keep credentials
    *("100.64.0.1", "100.127.255.254"),  # behind a carrier's NAT
    *("0.0.0.0", "::", "255.255.255.255", "240.0.0.1"),  # unspecified, broadcast, reserved
    *("224.0.0.1", "ff02::1"),  # multicast
    *("192.0.2.1", "198.18.0.1", "203.0.113.9", "2001:db8::1"),  # documentation, benchmarks
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),  # IPv4 in IPv6
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),  # behind NAT64
    *("2002:7f00:1::1", "2002:a00:1::", "2001:0:a00:1::f5ff:fffe"),  # 6to4, Teredo
    "fec0::1",  # site-local
    *("192.0.0.1", "192.0.0.9", "192.0.0.192", "192.88.99.1"),  # of protocols, relays
    *("168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110"),  # what a cloud tells its machines
    *("64:ff9b:1:7f00:1:0:808:808", "64:ff9b:1::808:808"),  # behind a NAT64 that is somebody's own
]


@pytest.mark.parametrize("ip", INSIDE)
def test_these_are_not(ip: str) -> None:
    assert not is_public(ipaddress.ip_address(ip))


@pytest.mark.parametrize("ip", INSIDE)
async def test_a_name_that_is_inside_is_not_connected_to(ip: str) -> None:
    resolve, _ = answers([ip])
    connects = Connects()
    with pytest.raises(EgressRefused, match="which is not public; it is not asked"):
        await Egress(resolve=resolve, connect=connects).get("http://inside.example/")
    assert not connects.to


async def test_one_address_inside_is_enough_to_refuse_a_name() -> None:
    resolve, _ = answers(["8.8.8.8", "10.0.0.1"])
    connects = Connects()
    with pytest.raises(EgressRefused, match=r"10\.0\.0\.1"):
        await Egress(resolve=resolve, connect=connects).get("http://mixed.example/")
    assert not connects.to


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::1]:1/", "http://2130706433:1/", "http://0x7f.1:1/", "http://localhost:1/"]
)
async def test_loopback_is_refused_however_it_is_spelled(url: str) -> None:
    connects = Connects()
    with pytest.raises(EgressRefused, match="not public"):
        await Egress(connect=connects).get(url)
    assert not connects.to


async def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to() -> None:
    """A name that is rebound between the look and the connection gains nothing: it is resolved once."""
    resolve, asked = answers(["93.184.215.14"], ["127.0.0.1"])
    connects = Connects()
    with pytest.raises(EgressError, match="nobody there"):
        await Egress(resolve=resolve, connect=connects).get("http://rebinds.example/")
    assert asked == ["rebinds.example"]
    assert connects.to == ["93.184.215.14"]


async def test_every_address_of_a_name_is_tried_in_turn() -> None:
    resolve, _ = answers(["8.8.8.8", "8.8.4.4"])
    connects = Connects()
    with pytest.raises(EgressError):
        await Egress(resolve=resolve, connect=connects).get("http://two.example/")
    assert connects.to == ["8.8.8.8", "8.8.4.4"]


async def test_an_allowed_network_is_asked_under_the_names_own_host() -> None:
    resolve, _ = answers(["127.0.0.1"])
    async with a_site() as site:
        answer = await Egress(LOOPBACK, resolve=resolve).get(f"http://inside.example:{site.port}/a?b=c#d")
        assert (answer.status, answer.text, answer.cut) == (200, "hello", False)
    [asked] = site.asked
    assert asked.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert f"host: inside.example:{site.port}".encode() in asked.lower()


async def test_a_mapped_address_is_in_the_network_of_what_it_carries() -> None:
    resolve, _ = answers(["::ffff:127.0.0.1"])
    connects = Connects()
    with pytest.raises(EgressError, match="nobody there"):
        await Egress(LOOPBACK, resolve=resolve, connect=connects).get("http://mapped.example/")
    assert connects.to == ["::ffff:127.0.0.1"]


@pytest.mark.parametrize("ip", ["168.63.129.16", "192.0.0.192", "64:ff9b:1:7f00:1:0:808:808"])
async def test_what_is_never_public_can_be_allowed(ip: str) -> None:
    resolve, _ = answers([ip])
    connects = Connects()
    with pytest.raises(EgressError, match="nobody there"):
        await Egress(networks(ip), resolve=resolve, connect=connects).get("http://allowed.example/")
    assert connects.to == [ip]


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with a_site() as inside, a_site() as outside:
        outside.answer = f"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inside.port}/\r\n\r\n".encode()
        answer = await Egress(LOOPBACK).get(f"http://127.0.0.1:{outside.port}/")
        assert (answer.status, answer.headers["location"]) == (302, f"http://127.0.0.1:{inside.port}/")
    assert not inside.asked


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_site() as proxy, a_site() as site:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await Egress(LOOPBACK).get(f"http://127.0.0.1:{site.port}/")).status == 200
    assert not proxy.asked


async def test_a_large_answer_is_cut_and_says_so() -> None:
    async with a_site() as site:
        site.answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000
        answer = await Egress(LOOPBACK, most_bytes=1_000).get(f"http://127.0.0.1:{site.port}/")
    assert (len(answer.body), answer.cut) == (1_000, True)


async def test_where_nothing_is_read_an_answer_counts_however_long_slow_or_packed_it_is() -> None:
    async with a_site() as site:
        site.answer, site.closes = b"HTTP/1.1 204 OK\r\ncontent-encoding: gzip\r\nretry-after: 1\r\n\r\n", False
        answer = await Egress(LOOPBACK, most_bytes=0).get(f"http://127.0.0.1:{site.port}/")
        assert (answer.status, answer.headers["retry-after"]) == (204, "1")
        site.answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10\r\n\r\nslow"
        assert (await Egress(LOOPBACK, most_bytes=0).get(f"http://127.0.0.1:{site.port}/")).status == 200


async def test_an_answer_that_never_ends_is_given_up() -> None:
    async with a_site() as site:
        site.answer, site.closes = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nslow", False
        with pytest.raises(EgressError, match=r"took longer than 0\.05 s"):
            await Egress(LOOPBACK, within=0.05).get(f"http://127.0.0.1:{site.port}/")


async def test_what_is_compressed_is_not_unpacked() -> None:
    async with a_site() as site:
        site.answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx"
        with pytest.raises(EgressError, match="compressed"):
            await Egress(LOOPBACK).get(f"http://127.0.0.1:{site.port}/")


async def test_what_is_no_http_is_an_error() -> None:
    async with a_site() as site:
        site.answer = b"SSH-2.0-OpenSSH\r\n\r\n"
        with pytest.raises(EgressError, match="could not be asked"):
            await Egress(LOOPBACK).get(f"http://127.0.0.1:{site.port}/")


def a_certificate(folder: Path) -> ssl.SSLContext:
    """What a server shows that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "inside.example")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "cert.pem").write_bytes(pem + made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem")
    return context


async def test_an_address_does_not_stand_in_for_a_certificate(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))

    resolve, _ = answers(["127.0.0.1"])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=a_certificate(tmp_path))
    async with server:
        port = server.sockets[0].getsockname()[1]
        egress = Egress(LOOPBACK, resolve=resolve)
        for _ in range(2):
            with pytest.raises(EgressError, match="certificate verify failed"):
                await egress.get(f"https://inside.example:{port}/")
    assert not asked


async def test_a_body_can_be_sent() -> None:
    async with a_site() as site:
        url = f"http://127.0.0.1:{site.port}/hook"
        answer = await Egress(LOOPBACK).request("POST", url, content=b"{}", headers={"x-signed": "yes"})
    assert isinstance(answer, Answer)
    assert site.asked[0].startswith(b"POST /hook")
    assert b"x-signed: yes" in site.asked[0]
    assert b"content-length: 2" in site.asked[0].lower()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http:///path", "only http and https"),
        ("//example.com", "only http and https"),
        ("http://user:word@example.com/", "a name or a password"),
        ("http://[::1/", "is no URL"),
        ("http://xn--a/", "is no URL"),
        ("http://a]/", "no host has such a name"),
        ("http://a[b]/", "no host has such a name"),
        ("http://a%00b/", "no host has such a name"),
        ("http://example.com:65536/", "no port such a number"),
        ("http://example.com:-1/", "no port such a number"),
        ("http://example.com:0/", "no port such a number"),
        ("gopher://127.0.0.1", "only http and https"),
    ],
)
async def test_what_may_not_be_asked_says_why(url: str, why: str) -> None:
    with pytest.raises(EgressRefused, match=why):
        await Egress(LOOPBACK).get(url)


async def test_a_name_without_an_address_is_an_error() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    empty, _ = answers([])
    resolvers: list[Callable[[str, int], Awaitable[Sequence[str]]]] = [nowhere, empty]
    for resolve in resolvers:
        with pytest.raises(EgressError, match=r"nowhere\.example has no address"):
            await Egress(resolve=resolve).get("http://nowhere.example/")


async def test_names_that_are_slow_to_be_found_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up, ask = threading.Event(), socket.getaddrinfo

    def asked(host: str, *more: Any, **how: Any) -> Any:
        if host.endswith("slow.example"):
            given_up.wait()
            raise OSError("Name or service not known")
        return ask(host, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    async with a_site() as site:
        slow = [asyncio.create_task(Egress().get(f"http://{n}.slow.example/")) for n in range(64)]
        await asyncio.sleep(0)  # all of them ask first
        try:
            assert (await Egress(LOOPBACK).get(f"http://127.0.0.1:{site.port}/")).status == 200
        finally:
            given_up.set()
            ends = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(end, EgressError) for end in ends)


async def test_a_list_that_is_wrong_is_told_where_a_worker_can_wait_for_a_better_one() -> None:
    wrong = Egress().with_settings(Settings(egress_allow="10.1.0.1/16"))
    with pytest.raises(HeadraceError, match="HEADRACE_EGRESS_ALLOW"):
        async with wrong:
            pass


def test_the_allowed_networks_are_read_from_a_list() -> None:
    assert networks("") == ()
    assert networks(" 10.1.0.0/16, 192.168.1.7 ,fd00::/8") == tuple(
        map(ipaddress.ip_network, ("10.1.0.0/16", "192.168.1.7/32", "fd00::/8"))
    )
    with pytest.raises(HeadraceError, match="HEADRACE_EGRESS_ALLOW"):
        networks("10.1.0.1/16")
