"""TLS to the broker: an amqps:// URL takes the same certificate options as a rediss:// URL.

Without options, certificates are checked. py-amqp alone accepts a certificate for any host name if its authority is
known, and sends the password there.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from kombu.utils.url import parse_ssl_cert_reqs

_CERT_REQS = re.compile(r"(?<=[?&]ssl_cert_reqs=)CERT_(REQUIRED|OPTIONAL|NONE)(?=&|$)")


def for_redis_py(url: str) -> str:
    """Return a broker's URL as redis-py expects it: Celery spells the certificate check differently."""
    return _CERT_REQS.sub(lambda match: match[1].lower(), url)


def celery_tls(url: str) -> tuple[str, dict[str, Any] | None]:
    """Return the URL as Celery accepts it and the setting `broker_use_ssl` (None without TLS of ours)."""
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        # Options in the URL override this one; kombu's own default checks no certificate.
        return url, {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if parts.scheme != "amqps":
        return url, None
    options_of_url = dict(parse_qsl(parts.query))
    # Kombu would pass these on under names that py-amqp does not know, or drop ours because of them.
    rest = {name: value for name, value in options_of_url.items() if not name.startswith("ssl")}
    bare = url.partition("?")[0] + ("?" + urlencode(rest) if rest else "")
    return bare, _for_amqp(unquote(parts.hostname or "localhost"), options_of_url)


def _for_amqp(host: str, options_of_url: Mapping[str, str]) -> dict[str, Any]:
    """Return py-amqp's TLS options for the options of the URL."""
    names = (name for name in ("ca_certs", "certfile", "keyfile") if f"ssl_{name}" in options_of_url)
    options: dict[str, Any] = {name: options_of_url[f"ssl_{name}"] for name in names}
    options["cert_reqs"] = parse_ssl_cert_reqs(options_of_url.get("ssl_cert_reqs", "required"))
    if options["cert_reqs"] != ssl.CERT_NONE and options_of_url.get("ssl_check_hostname", "true").lower() != "false":
        # The host name is checked only if it is given here. Take it from the URL: kombu itself would replace 127.0.0.1
        # by localhost.
        options["server_hostname"] = host
    return options
