"""Addresses of image servers: shown without secrets, and compared."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from gems.errors import ModelSpecError


def shown_address(url: str) -> str:
    """`url` for messages and records: without user, password, query and trailing slash.

    Raises:
        ModelSpecError: it is no http or https address.
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ModelSpecError(f"The address of the image server cannot be read: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelSpecError(
            "The address of the image server is not complete.", hint="Write it as http://host:port/path."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


def on_same_server(address: str, base_url: str) -> str | None:
    """`address`, made absolute against `base_url`; None where its server is another or a doubtful one."""
    try:
        absolute = urljoin(f"{base_url}/", address)
        if any(mark in urlsplit(absolute).netloc for mark in "@\\"):
            # Programs do not agree on which host such an address means.
            return None
        return absolute if _origin(absolute) == _origin(base_url) else None
    except ValueError:
        return None


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
