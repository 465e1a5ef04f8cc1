"""Download images that a server answers as URLs on other hosts, without reaching into this machine's network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gems.errors import RejectedRequestError, ServerError, UnreachableError
from gems.models.http import MAX_IMAGE_BYTES, make_client_options, translate_error
from gems.observability.redaction import redact, shorten

if TYPE_CHECKING:
    import httpx

_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 4
_SETTING = "GEMS_GENERATOR__IMAGE_HOSTS"
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that gateways translate to IPv4 ones, internal ones too."""


class ImageDownloader:
    """Downloads images from allowed hosts: by HTTPS, without keys, and never from internal addresses.

    If the endpoint is on this machine's loopback interface, HTTP and loopback addresses are allowed too.

    Args:
        hosts: `HOST`, `HOST:PORT` or `*.DOMAIN`; the port is that of the scheme if it is not named.
        endpoint: How messages name the server that answers the URLs.
        base_url: The server's own URL.
        timeout_s: Seconds for connecting, and for each part of the answer.
    """

    def __init__(self, hosts: Sequence[str], *, endpoint: str, base_url: str, timeout_s: float) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._endpoint = endpoint
        self._is_local = _is_loopback(urlsplit(base_url).hostname or "")
        self._timeout_s = timeout_s

    async def download(self, address: str) -> bytes:
        """Return the bytes at a URL, at most 256 MiB.

        Raises:
            RejectedRequestError: the URL, or one that it redirects to, is not allowed.
            ProviderError: the host did not answer with an image.
        """
        import httpx  # noqa: PLC0415 - loaded with the first request

        url = self._check_url(address)
        options = make_client_options(httpx.Limits, self._timeout_s, MAX_IMAGE_BYTES)
        # A proxy would resolve the host again; .netrc would send a password.
        async with httpx.AsyncClient(**options, trust_env=False, follow_redirects=False) as client:
            for _ in range(_MAX_REDIRECTS + 1):
                try:
                    response = await self._get(client, url)
                except httpx.TransportError as error:
                    raise translate_error(error, url.host) from error
                if not response.has_redirect_location:
                    return response.content
                url = self._check_url(response.headers["location"], url)
        raise self._reject(str(url), "it redirects too often")

    async def _get(self, client: httpx.AsyncClient, url: httpx.URL) -> httpx.Response:
        """Send the request to an address that was checked: resolved again, the host could have another one."""
        import httpx  # noqa: PLC0415

        addresses = await self._resolve(url)
        for number, address in enumerate(addresses, 1):
            request = client.build_request(
                "GET",
                url.copy_with(host=address),
                headers={"Host": url.netloc.decode("ascii"), "Accept": "image/*"},
                # The certificate has to be the host's.
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
            )
            try:
                response = await client.send(request)
                break
            except httpx.ConnectError:
                if number == len(addresses):
                    raise
        if response.is_success or response.has_redirect_location:
            return response
        what = f"{url.host}, from which {self._endpoint} lets its image be fetched, answered {response.status_code}."
        # Some hosts have the image a moment later.
        if response.status_code in (404, 408, 425, 429) or response.is_server_error:
            raise ServerError(what)
        raise RejectedRequestError(what, hint="Configure the server to return b64_json.")

    def _check_url(self, address: str, base: httpx.URL | None = None) -> httpx.URL:
        """Parse a URL; RejectedRequestError if it is not allowed."""
        import httpx  # noqa: PLC0415

        try:
            url = httpx.URL(address) if base is None else base.join(address)
        except (httpx.InvalidURL, ValueError):
            raise self._reject(address, "it is invalid") from None
        if url.scheme not in ("https", "http") or not url.host or url.userinfo:
            raise self._reject(address, "it is invalid")
        if not self._is_listed(url):
            name = url.host if url.port is None else f"{url.host}:{url.port}"
            hint = f"""Allow this host with {_SETTING}='["{name}"]', or configure the server to return b64_json."""
            raise self._reject(address, "its host is not allowed", hint)
        if url.scheme == "http" and not self._is_local:
            raise self._reject(address, "it is not https")
        return url

    def _is_listed(self, url: httpx.URL) -> bool:
        host = url.host.rstrip(".")
        domains = host.split(".")
        names = {host, *(f"*.{'.'.join(domains[start:])}" for start in range(1, len(domains)))}
        return bool(self._hosts & (names if url.port is None else {f"{name}:{url.port}" for name in names}))

    async def _resolve(self, url: httpx.URL) -> list[str]:
        """Return the addresses of a host that are not internal; RejectedRequestError if there are none."""
        port = url.port or {"http": 80}.get(url.scheme, 443)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.raw_host.decode(), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"{url.host} could not be resolved: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        usable = [each for each in addresses if is_public(each) or (self._is_local and _is_loopback(each))]
        if not usable:
            raise self._reject(str(url), f"{url.host} has the internal address {', '.join(addresses[:2])}")
        return usable[:_MAX_ADDRESSES]

    def _reject(self, address: str, why: str, hint: str = "") -> RejectedRequestError:
        # The query of such a URL is often a signature.
        shown = shorten(redact(address.partition("?")[0]), 120)
        what = f"{self._endpoint} sent a URL on another server instead of the image: {shown}; {why}."
        return RejectedRequestError(what, hint=hint or "Configure the server to return b64_json.")


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed.sixtofour is not None or parsed.teredo is not None or parsed in _TRANSLATED:
            return False
    return parsed.is_global and not parsed.is_multicast


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
