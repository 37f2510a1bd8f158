"""Who calls, where trusted proxies stand in front: the address for counting and the log, and whether it came by https.

`TRUSTED_PROXIES` names the networks whose word is believed. Everybody may write X-Forwarded-For, so that it is read
from its end, where the proxy next to us has added whom it saw: the first address there that is no trusted proxy's is
the caller's. What stands before it is the caller's own word, and is not read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Beyond this nobody's chain of proxies goes: a caller may send as many addresses as fit into a header.
HOPS_MAX = 20
_BRACKETED = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?")
_IPV4_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")


class TrustedProxies:
    """ASGI middleware, outermost: puts the caller's address and scheme where everything else looks for them."""

    def __init__(self, app: ASGIApp, *, networks: Sequence[Network]) -> None:
        self.app = app
        self.networks = networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and self.networks and client is not None:
            address, scheme = caller_of(client[0], scope["headers"], self.networks)
            scope = dict(scope)
            if address != client[0]:
                scope["client"] = (address, 0)  # the port is the proxy's
            if scheme is not None:
                scope["scheme"] = scheme
        await self.app(scope, receive, send)


def caller_of(peer: str, headers: Iterable[tuple[bytes, bytes]], networks: Sequence[Network]) -> tuple[str, str | None]:
    """(the caller's address, the scheme that a trusted proxy tells or None).

    `peer` is who is connected to us. The headers of who is no trusted proxy are not read.
    """
    seen = parsed(peer)
    if seen is None or not _is_among(seen, networks):
        return peer, None
    headers = [*headers]
    hops = 0
    address = seen
    for text in reversed(_listed(headers, b"x-forwarded-for")[-HOPS_MAX:]):
        told = parsed(text)
        if told is None:
            break  # the proxy does not know: it is the last that is known
        hops, address = hops + 1, told
        if not _is_among(told, networks):
            break
    return str(address), _scheme(_listed(headers, b"x-forwarded-proto"), hops)


def parsed(text: str) -> Address | None:
    """An address as proxies write it: with a port, in brackets, with a zone. None for what is none."""
    text = text.strip().strip('"')
    found = _BRACKETED.fullmatch(text) or _IPV4_WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((found[1] if found else text).partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_among(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _listed(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The members of a header that is a list; several lines of it are one list."""
    lines = (value.decode("latin-1") for key, value in headers if key.lower() == name)
    return [member.strip() for line in lines for member in line.split(",") if member.strip()]


def _scheme(told: Sequence[str], hops: int) -> str | None:
    """What the proxy that saw the caller told. Proxies either add to the list, as to the addresses, or leave one."""
    if not told:
        return None
    scheme = told[max(0, len(told) - max(1, hops))].lower()
    return scheme if scheme in ("http", "https") else None
