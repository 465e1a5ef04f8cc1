"""Collect all secrets that a process knows, for redaction of tracebacks and logs."""

from __future__ import annotations

import os

from pydantic import SecretStr

from gems.observability.redaction import secrets_in, secrets_of_address
from gems.settings import Settings

_KEY_VARIABLES = ("OPENAI_API_KEY", "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")


def known_secrets(settings: Settings | None) -> tuple[str, ...]:
    """Return the keys in settings and environment, and likely ones in URLs and fields."""
    found = [os.environ.get(name, "") for name in _KEY_VARIABLES]
    if settings is not None:
        chats = (settings.chat, settings.planner, settings.judge, settings.reflector, settings.eval_judge)
        parts = (*chats, settings.generator)
        given = (*(part.api_key for part in parts), settings.embedder_api_key, settings.checkpoint)
        found += [each.get_secret_value() for each in given if isinstance(each, SecretStr)]
        for part in parts:
            found += secrets_in(part.extra_body)
        checkpoint = settings.checkpoint.get_secret_value() if settings.checkpoint else ""
        models = (part.model.partition(":")[2].rpartition("@http") for part in parts)
        addresses = (f"http{url}" if at else url for _, at, url in models)
        for address in (*addresses, settings.otel, checkpoint):
            found += _secrets_of_url(address)
    return tuple(dict.fromkeys(secret for secret in found if secret))


def _secrets_of_url(address: str) -> list[str]:
    try:
        return list(secrets_of_address(address))
    except ValueError:
        # Not a URL, so nothing is sent there; its use reports the error.
        return []
