"""Display and compare URLs of image servers."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit


def resolve_on_same_server(address: str, base_url: str) -> str | None:
    """Resolve `address` against `base_url`; None if it is on another server or ambiguous."""
    try:
        absolute = urljoin(f"{base_url}/", address)
        if any(mark in urlsplit(absolute).netloc for mark in "@\\"):
            # URL parsers disagree about the host of such an address.
            return None
        return absolute if _origin(absolute) == _origin(base_url) else None
    except ValueError:
        return None


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
