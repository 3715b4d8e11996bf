"""Which hosts and addresses of a URL may be reached: pure functions, no network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from datamodules.errors import DataError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Longest URL that is looked at. [ours]
_MAX_URL = 2048
#: Scheme, authority and the rest; a fragment is never sent and is refused with the odd characters.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?]*))?(?P<target>.*)")
#: What RFC 3986 lets stand in a URL unquoted, less `#`, and whole percent signs.
_PLAIN = re.compile(r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_CANONICAL_V4 = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
#: Names that are never of the public internet: RFC 6761, 6762, 7686, 8375 and ICANN's `internal`.
_LOCAL_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "onion", "test", "invalid")

#: IPv4 ranges that are not the public internet: the IANA special-purpose registry (RFC 6890 and
#: its successors), multicast, and the deprecated relay range of 6to4 (RFC 7526).
_CLOSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # the public address under which a large cloud serves its metadata
        "168.63.129.16/32",
    )
)
#: IPv6: all but global unicast is closed (mapped, NAT64, local, multicast lie outside of it) ...
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")
#: ... and in it protocol assignments with Teredo, documentation, 6to4, AS112. IANA, as above.
_CLOSED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class FetchError(DataError):
    """Say why a URL was not fetched.

    Attributes:
        code: `refused_url` for what may not be asked for, `fetch_failed` for what did not come,
            `too_large` for what is over the limit.
    """

    def __init__(self, message: str, code: str = "refused_url") -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[FetchError], tuple[str, str]]:
        return type(self), (str(self), self.code)


class Target(NamedTuple):
    """A URL that was taken apart once, so that no second parser may read it differently."""

    scheme: str
    host: str
    port: int
    target: str


def parse_url(
    url: str, schemes: Iterable[str], ports: Iterable[int], allowed: tuple[Network, ...] = ()
) -> Target:
    """Take a URL apart, strictly, and refuse what is not plainly an allowed one.

    Args:
        url: What a user or a redirect gave.
        schemes: Allowed schemes.
        ports: Allowed ports.
        allowed: Networks that may be reached although they are not public.

    Returns:
        Its parts: `target` is path and query.

    Raises:
        FetchError: Names the part that is wrong, and the remedy.
    """
    if not url or len(url) > _MAX_URL:
        raise FetchError(f"the URL is empty or longer than {_MAX_URL} characters")
    if not url.isascii():
        raise FetchError(
            "the URL holds letters outside ASCII, which may look like others; write its host in "
            "the xn-- form and quote its path with %"
        )
    if not _PLAIN.fullmatch(url.partition("#")[0]) or "#" in url:
        raise FetchError(
            "the URL holds a space, a control character, a backslash, a '#' or another character "
            "that must be quoted with %"
        )
    parts = _URL.fullmatch(url)
    schemes = tuple(schemes)
    scheme = parts["scheme"].lower() if parts else ""
    if parts is None or scheme not in schemes:
        raise FetchError(f"the URL must begin with {' or '.join(s + '://' for s in schemes)}")
    host, port = _authority(parts["authority"] or "", 443 if scheme == "https" else 80)
    if port not in set(ports):
        raise FetchError(f"port {port} is not among the allowed ones ({_listed(ports)})")
    _check_host(host, allowed)
    path = parts["target"] or "/"
    return Target(scheme, host, port, path if path.startswith("/") else f"/{path}")


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ports)))


def _authority(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise FetchError("the URL holds a user name or password; leave it out")
    if "%" in authority:
        raise FetchError("the host of the URL holds a '%': no quoting and no zone there")
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise FetchError("the IPv6 address of the URL is not closed by a ']'")
        port = rest[1:] if rest else None
    else:
        host, colon, given = authority.partition(":")
        port = given if colon else None
    if not host:
        raise FetchError("the URL names no host")
    if port is None:
        return host.lower(), default_port
    if not _PORT.fullmatch(port):
        raise FetchError("the port of the URL is no plain number")
    return host.lower(), int(port)


def _check_host(host: str, allowed: tuple[Network, ...]) -> None:
    """Refuse names that are not public ones; whether a name's address is shows when it is known."""
    if ":" in host:
        try:
            address: Address = ipaddress.IPv6Address(host)
        except ValueError:
            raise FetchError("the host of the URL is no IPv6 address") from None
        check_address(address, allowed)
        return
    labels = host.split(".")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):  # WHATWG URL: "ends in a number"
        if not _CANONICAL_V4.fullmatch(host) or any(int(label) > 255 for label in labels):
            raise FetchError(
                "the host of the URL is a number; write four decimal numbers or a name"
            )
        check_address(ipaddress.IPv4Address(host), allowed)
        return
    if host.endswith("."):
        raise FetchError("the host of the URL ends with a dot; leave it out")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
        raise FetchError("the host of the URL is no valid name")
    local = len(labels) == 1 or any(f".{host}".endswith(f".{s}") for s in _LOCAL_SUFFIXES)
    if local and not allowed:
        raise FetchError("the host of the URL is a name of a private network")


def check_address(address: Address, allowed: tuple[Network, ...] = ()) -> None:
    """Refuse an address that is not of the public internet.

    Args:
        address: What a name resolved to, or stood in the URL.
        allowed: Networks that may be reached all the same.

    Raises:
        FetchError: It may not be reached. The message leaves the address out: who probes a network
            through us learns nothing of it.
    """
    if not is_public(address) and not any(
        address in network for network in allowed if network.version == address.version
    ):
        raise FetchError("the host of the URL is not an address of the public internet")


def is_public(address: Address) -> bool:
    """Tell whether an address is globally reachable unicast, by the closed lists of this module.

    Args:
        address: An address without a zone.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address.scope_id is not None:
        return False
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)
