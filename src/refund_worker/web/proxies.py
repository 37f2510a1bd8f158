"""The caller's address and scheme behind trusted proxies; used for counting, for the log and for https.

`TRUSTED_PROXIES` names the networks of trusted proxies. Any client can send X-Forwarded-For, so it is read from its
end, where the proxy next to us has added the address that it saw. The first address from there that is not a trusted
proxy's is the caller's. Everything before it was written by the caller and is ignored.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Longer than any real chain of proxies: a caller may send as many addresses as fit into a header.
HOPS_MAX = 20
_BRACKETED = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?")
_IPV4_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")


class TrustedProxies:
    """Outermost ASGI middleware: sets the caller's address and scheme in the scope, where all other code reads them."""

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
    """Return (the caller's address, the scheme that a trusted proxy reports or None).

    `peer` is the address connected to us. Headers are read only if it is a trusted proxy's.
    """
    seen = parsed(peer)
    if seen is None or not _is_among(seen, networks):
        return peer, None
    headers = [*headers]
    hops = 0
    address = seen
    for text in reversed(_listed(headers, b"x-forwarded-for")[-HOPS_MAX:]):
        reported = parsed(text)
        if reported is None:
            break  # the proxy does not know the address, so the last known one counts
        hops, address = hops + 1, reported
        if not _is_among(reported, networks):
            break
    return str(address), _scheme(_listed(headers, b"x-forwarded-proto"), hops)


def parsed(text: str) -> Address | None:
    """Return the address as proxies write it (with a port, in brackets, with a zone), or None if it is not one."""
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
    """Return the members of a list header; several lines of it form one list."""
    lines = (value.decode("latin-1") for key, value in headers if key.lower() == name)
    return [member.strip() for line in lines for member in line.split(",") if member.strip()]


def _scheme(schemes: Sequence[str], hops: int) -> str | None:
    """Return the scheme reported by the proxy that saw the caller.

    Proxies either add to this list, as to the addresses, or send a single value.
    """
    if not schemes:
        return None
    scheme = schemes[max(0, len(schemes) - max(1, hops))].lower()
    return scheme if scheme in ("http", "https") else None
