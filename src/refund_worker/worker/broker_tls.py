"""TLS to the broker: an amqps:// URL says of certificates what a rediss:// URL does; without a word they are checked.

Py-amqp by itself takes any certificate of a known authority, whoever's it is, and sends the password there.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from kombu.utils.url import parse_ssl_cert_reqs


def celery_tls(url: str) -> tuple[str, dict[str, Any] | None]:
    """The URL as Celery can take it, and its `broker_use_ssl`."""
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        # What the URL says of certificates goes before this; kombu's own default asks for none.
        return url, {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if parts.scheme != "amqps":
        return url, None
    said = dict(parse_qsl(parts.query))
    # Kombu would hand these on under names that py-amqp does not know, or drop ours for them.
    rest = {name: value for name, value in said.items() if not name.startswith("ssl")}
    bare = url.partition("?")[0] + ("?" + urlencode(rest) if rest else "")
    return bare, _for_amqp(unquote(parts.hostname or "localhost"), said)


def _for_amqp(host: str, said: Mapping[str, str]) -> dict[str, Any]:
    names = (name for name in ("ca_certs", "certfile", "keyfile") if f"ssl_{name}" in said)
    options: dict[str, Any] = {name: said[f"ssl_{name}"] for name in names}
    options["cert_reqs"] = parse_ssl_cert_reqs(said.get("ssl_cert_reqs", "required"))
    if options["cert_reqs"] != ssl.CERT_NONE and said.get("ssl_check_hostname", "true").lower() != "false":
        # Only with a name is it checked. As the URL has it: kombu itself would take 127.0.0.1 for localhost.
        options["server_hostname"] = host
    return options
