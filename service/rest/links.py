"""Addresses that a server gives us: followed only where they stay at the server that was configured."""

from __future__ import annotations

import httpx

_PORTS = {"http": 80, "https": 443}
_UP = (b"/..", b"%2e%2e", b"/.%2e", b"%2e./")


def below(base: str, link: str) -> str | None:
    """Return what follows a FHIR base in the address that a link names, with its query; None if it is elsewhere.

    A relative link is taken from the base. Whoever asks for `base/` and the rest can't come out elsewhere.
    """
    resolved = _resolved(base, link)
    root = httpx.URL(base)
    if resolved is None or not _same_server(root, resolved):
        return None
    path, mark, query = resolved.raw_path.partition(b"?")
    above = root.raw_path.rstrip(b"/")
    if not (path.rstrip(b"/") == above or path.startswith(above + b"/")) or any(each in path.lower() for each in _UP):
        return None
    return (path[len(above) :].removeprefix(b"/") + mark + query).decode("ascii")


def at_hosts(base: str, link: str, hosts: frozenset[str]) -> httpx.URL | None:
    """Return the address that a link names at the base's own server, or by the same scheme at one of `hosts`.

    A host is a name, or `name:port`. None if it is elsewhere.
    """
    resolved = _resolved(base, link)
    root = httpx.URL(base)
    if resolved is None or (root.scheme == "https" and resolved.scheme != "https"):
        return None
    named = {resolved.host, f"{resolved.host}:{_port(resolved)}"}
    return resolved if _same_server(root, resolved) or not named.isdisjoint(hosts) else None


def is_at(base: str, url: httpx.URL) -> bool:
    """Return whether an address is at a FHIR base's own server: scheme, host and port."""
    return _same_server(httpx.URL(base), url)


def _resolved(base: str, link: str) -> httpx.URL | None:
    try:
        url = httpx.URL(f"{base}/").join(link.strip())
    except (httpx.InvalidURL, ValueError):
        return None
    return url if url.scheme in _PORTS and url.host and not url.userinfo else None


def _same_server(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, _port(one)) == (other.scheme, other.host, _port(other))


def _port(url: httpx.URL) -> int | None:
    return url.port or _PORTS.get(url.scheme)
