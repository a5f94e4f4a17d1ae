"""Egress: HTTP requests to places that somebody else names, and nothing inside is reached by them.

A name is resolved once, every address that it has must be public, and the connection is made to the very address that
was looked at: a name that means something else the next time (DNS rebinding) is not asked a next time. Redirects are
answers like any other, proxies of the environment are not used, and size and time are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType
from typing import Self

import httpcore
import httpx

from actors.contracts.errors import HeadraceError
from actors.runtime.settings import Settings

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, as text."""

WITHIN_S = 10.0
MOST_BYTES = 256 << 10
MOST_PORT = (1 << 16) - 1
HEADERS = {"user-agent": "headrace", "accept": "*/*", "accept-encoding": "identity", "connection": "close"}

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")
"""A name or an address. What else httpx takes for a host, others that read the same URL break on."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_INSIDE: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # of protocols (RFC 6890); Python 3.11 has most of it for global
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays to 6to4, which are no more (RFC 7526)
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's host, which gives a machine its settings and certificates
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # a network's own NAT64 (RFC 8215); only it knows where the IPv4 stands
)
"""What Python has for global, or would be judged by an address that it does not lead to."""


class EgressError(HeadraceError):
    """A request could not be made, or was not answered; the message says why."""


class EgressRefused(EgressError):
    """A request may not be made: it leads to where nobody outside may reach. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the status, the headers in small letters, and the body; `cut` where it was longer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False

    @property
    def text(self) -> str:
        """The body as text, as far as it is that."""
        return self.body.decode(errors="replace")


def networks(listed: str) -> tuple[Network, ...]:
    """The networks in a list that is separated by commas. Raises HeadraceError."""
    try:
        return tuple(ipaddress.ip_network(each.strip()) for each in listed.split(",") if each.strip())
    except ValueError as error:
        raise HeadraceError(
            f"HEADRACE_EGRESS_ALLOW: {error}; write networks such as 10.1.0.0/16,192.168.1.7"
        ) from error


def is_public(ip: Ip) -> bool:
    """Whether an address is one of the internet; one that carries another (mapped, NAT64, 6to4) is judged by that."""
    if any(ip in network for network in _INSIDE):
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (carried := _carried(ip)) is not None:
        return is_public(carried)
    inside = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local
    return ip.is_global and not inside and not getattr(ip, "is_site_local", False)


def _carried(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a packet to this one ends up at."""
    if ip.ipv4_mapped or ip.sixtofour:
        return ip.ipv4_mapped or ip.sixtofour
    if ip.teredo:
        return ip.teredo[1]
    embeds = ip in _NAT64 or int(ip) >> 32 == 0  # the last are the old "compatible" ones
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if embeds and int(ip) > 1 else None


async def resolve(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    own = ThreadPoolExecutor(
        1, "resolve"
    )  # those that all share are few: names that take long would hold up the others
    try:
        found = await asyncio.get_running_loop().run_in_executor(own, ask)
    finally:
        own.shutdown(wait=False)
    return [str(address[4][0]) for address in found]


class Egress:
    """Makes requests, to public addresses and to the networks that are allowed. An async context manager.

    Of an answer no more than `most_bytes` are read; with 0 it is the status and the headers, whatever comes after them.
    """

    def __init__(
        self,
        allowed: Iterable[Network] = (),
        *,
        resolve: Resolve = resolve,
        within: float = WITHIN_S,
        most_bytes: int = MOST_BYTES,
        connect: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed = tuple(allowed)
        self._listed = ""
        self._resolve = resolve
        self._within = within
        self._most_bytes = most_bytes
        self._connect = connect

    def with_settings(self, settings: Settings) -> Egress:
        made = Egress(self._allowed, resolve=self._resolve, within=self._within, most_bytes=self._most_bytes)
        made._listed = settings.egress_allow
        return made

    async def __aenter__(self) -> Self:
        self._allowed += networks(self._listed)  # here, where a worker can say that the list is wrong, and wait
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def get(self, url: str) -> Answer:
        """What a URL answers. Raises EgressRefused and EgressError."""
        return await self.request("GET", url)

    async def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask once, over a connection of its own. Raises EgressRefused and EgressError."""
        asked = checked(url)
        sent = [("host", asked.netloc.decode()), *HEADERS.items(), *(headers or {}).items()]
        guarded = _Guarded(self._addresses, self._connect or httpcore.AnyIOBackend())
        tls = self._tls if asked.scheme == "https" else None
        try:
            async with (
                asyncio.timeout(self._within),
                httpcore.AsyncConnectionPool(tls, network_backend=guarded, retries=0) as pool,
                pool.stream(method, str(asked), headers=sent, content=content) as response,
            ):
                return await self._read(response)
        except TimeoutError:
            raise EgressError(f"{asked.host} took longer than {self._within:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise EgressError(f"{asked.host} could not be asked: {error or type(error).__name__}") from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once: it reads every authority that there is, and nothing else runs meanwhile."""
        return httpcore.default_ssl_context()

    async def _read(self, response: httpcore.Response) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if not self._most_bytes:
            return Answer(response.status, headers)
        if (coding := headers.get("content-encoding", "identity")) != "identity":
            raise EgressError(f"the answer is compressed ({coding}), which was not asked for")
        body = bytearray()
        async for piece in response.aiter_stream():
            body += piece
            if len(body) > self._most_bytes:
                return Answer(response.status, headers, bytes(body[: self._most_bytes]), cut=True)
        return Answer(response.status, headers, bytes(body))

    async def _addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a name, all of which may be reached. Raises EgressRefused and EgressError."""
        try:
            found = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError) as error:
            raise EgressError(f"{host} has no address: {error}") from error
        for address in found:
            if not self._may_reach(ipaddress.ip_address(address.partition("%")[0])):
                raise EgressRefused(f"{host} is at {address}, which is not public; it is not asked")
        if not found:
            raise EgressError(f"{host} has no address")
        return found

    def _may_reach(self, ip: Ip) -> bool:
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return is_public(ip) or any((mapped or ip) in network for network in self._allowed)


def checked(url: str) -> httpx.URL:
    """The URL, if it is one that may be asked at all, wherever it leads. Raises EgressRefused."""
    try:
        asked = httpx.URL(url)
        host = asked.host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise EgressRefused(f"{url[:200]!r} is no URL: {error}") from error
    if asked.scheme not in ("http", "https") or not host:
        raise EgressRefused(f"{url[:200]!r} is not asked: only http and https with a host are")
    if asked.userinfo:
        raise EgressRefused(f"a URL for {host} has a name or a password in it; it is not asked")
    if not _HOST.fullmatch(asked.raw_host) or not 0 < (1 if asked.port is None else asked.port) <= MOST_PORT:
        raise EgressRefused(f"{url[:200]!r} is not asked: no host has such a name, or no port such a number")
    return asked.copy_with(fragment=None)


class _Guarded(httpcore.AsyncNetworkBackend):
    """Opens connections only to addresses that were looked at. TLS still asks for the name's own certificate."""

    def __init__(
        self, addresses: Callable[[str, int], Awaitable[list[str]]], connect: httpcore.AsyncNetworkBackend
    ) -> None:
        self._addresses = addresses
        self._connect = connect

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        [*others, last] = await self._addresses(host, port)
        for address in others:
            try:
                return await self._connect.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._connect.connect_tcp(last, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise EgressRefused("no socket of this machine is asked")

    async def sleep(self, seconds: float) -> None:
        await self._connect.sleep(seconds)
