"""Display and compare URLs of image servers."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from gems.errors import ModelSpecError


def display_url(url: str) -> str:
    """Return an HTTP URL without user, password, query and trailing slash; raises `ModelSpecError`."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ModelSpecError(f"Invalid URL of the image server: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelSpecError("The URL of the image server is incomplete.", hint="Use http://host:port/path.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


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
