"""The user's own `.env`, in the configuration folder of the platform: where it is, how it is read and changed."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BaseModel
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from gems.errors import ConfigurationError, GemsError, MissingExtraError
from gems.files.shared import changing, write_atomically
from gems.files.trust import ENV_FILE, read_trust

logger = logging.getLogger(__name__)
SERVICE = "gems"
"""Name under which keys are stored in a keyring."""
_PLACES = ("home", "checkpoint", "images", "experience", "otel", "otel_text")
_SERVER_PLACES = ("host", "keys", "cors_origins")
ROLES = ("planner", "judge", "reflector", "eval_judge")
_OFFERS = ("offered_generators", "offered_judges")
"""Groups of models on offer; the section of one of them is `GROUP.NAME`."""
_REFERENCE = re.compile(r"(env|keyring):([\w.-]+)")


def config_file() -> Path:
    """Return the path of the user's own `.env`; the environment and the current folder's `.env` override it."""
    return Path(platformdirs.user_config_dir("gems", appauthor=False)) / ".env"


def server_of(spec: str) -> str:
    """Return the scheme, host and port in a model spec; without them its kind, with the provider of LangChain."""
    found = re.search(r"https?://[^/?#]+", spec)
    return found.group().lower() if found else provider_of(spec) or spec.strip().partition(":")[0]


def provider_of(spec: str) -> str:
    """Return `langchain:PROVIDER` of a model of LangChain, whose class takes arguments of its own; else nothing."""
    found = re.match(r"\s*langchain:[^:@]*", spec)
    return found.group().strip().lower().replace("-", "_") if found else ""


class ConfigFileSource(DotEnvSettingsSource):
    """Settings in the user's own `.env`.

    A key in it may be named instead of written: `env:NAME` is an environment variable, `keyring:NAME` an entry of
    the keyring. Nowhere else are such names read: a project's `.env` must not be able to send a key somewhere. For
    the same reason a section whose model is overridden with one on another server loses its key.
    """

    def unresolved(self) -> dict[str, Any]:
        """Return the settings as they are in the file."""
        found: dict[str, Any] = super().__call__()
        return found

    def __call__(self) -> dict[str, Any]:
        """Return the settings by field, without keys that cannot be found, which are warned of."""
        found = self.unresolved()
        for name in _sections(found):
            part = dict(_part(found, name))
            if not part.keys() & {"api_key", "extra_body"}:
                continue
            if self._server(name, found, {}) != self._server(name, found, self.current_state):
                _put(found, name, {key: part[key] for key in part if key not in ("api_key", "extra_body")})
            elif not _part(self.current_state, name).get("api_key"):
                _put(found, name, part | {"api_key": _find_or_warn(part.get("api_key"))})
        for name, default in (("embedder", "auto"), ("detector", "off")):
            if isinstance(named := found.get(f"{name}_api_key"), str):
                own, used = (str(data.get(name) or default) for data in (found, found | self.current_state))
                found[f"{name}_api_key"] = _find_or_warn(named) if server_of(own) == server_of(used) else None
        return found

    @staticmethod
    def _server(name: str, found: Mapping[str, Any], over: Mapping[str, Any]) -> str:
        """Return the server of a section's model, if the settings `over` override those of the file."""
        for section in (name, "chat") if name in ("chat", *ROLES) else (name,):
            if model := _part(over, section).get("model") or _part(found, section).get("model"):
                return server_of(str(model))
        return server_of("blocks")


class ProjectFileSource(DotEnvSettingsSource):
    """Settings in the `.env` of the current folder, which may be part of somebody else's project.

    Unless the user trusts the file as it is (`gems skills trust DIR`), it sets nothing that names a place from which
    code could come, to which data would be written or a key sent: no home, no database, no keys of the server, and no
    model on another server while a key or further fields for that section come from elsewhere.
    """

    def __init__(self, settings_cls: type[BaseSettings], own: ConfigFileSource, home: Path, **options: Any) -> None:
        super().__init__(settings_cls, **options)
        self._own, self._home = own, home

    def __call__(self) -> dict[str, Any]:
        """Return the settings by field; what is ignored is warned of. Raises as `read_trust`."""
        found: dict[str, Any] = super().__call__()
        if not found:
            return found
        own = self._own.unresolved()
        home = Path(self.current_state.get("home") or own.get("home") or self._home).expanduser()
        if read_trust(home).has_seen_env(Path.cwd()):
            return found
        kept, ignored = _harmless(found, own, self.current_state)
        if ignored:
            names = ", ".join(f"GEMS_{name.upper()}" for name in sorted(ignored))
            _warn(
                f"{Path.cwd() / ENV_FILE} is not trusted, so this is ignored: {names}. "
                "Review the file, then trust it with `gems skills trust .`, or set this in the environment."
            )
        return kept


def _harmless(
    found: Mapping[str, Any], own: Mapping[str, Any], over: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of an untrusted file that it may set, and the names of the others.

    `own` are those of the user's own file, which has less priority, `over` those of the environment.
    """
    ignored = [(name, "") for name in _PLACES if name in found]
    ignored += [("serve", name) for name in _SERVER_PLACES if name in _part(found, "serve")]
    for section in _sections(found):
        part = _part(found, section)
        ignored += [(section, name) for name in ("extra_body", "image_hosts") if name in part]
        if "model" in part and _is_keyed(section, str(part["model"]), own, over):
            # What is on offer is nothing without a model.
            ignored.append((section, "" if "." in section else "model"))
    embedder = str(found.get("embedder") or "")
    if embedder.strip().startswith("local:") or (embedder and over.get("embedder_api_key")):
        ignored.append(("embedder", ""))
    kept = dict(found)
    for section, field in ignored:
        _remove(kept, section, field)
    return kept, ["__".join(filter(None, (*section.split(".", 1), field))) for section, field in ignored]


def _is_keyed(section: str, model: str, own: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    """Return whether a section with this model would send something of the user's to another server than before.

    `ConfigFileSource` removes what the user's own file has for the section itself.
    """

    def has_secret(data: Mapping[str, Any], name: str, *fields: str) -> bool:
        return any(_part(data, name).get(key) for key in fields)

    before = next(
        (
            str(named)
            for name in ((section, "chat") if section in ROLES else (section,))
            for data in (over, own)
            if (named := _part(data, name).get("model"))
        ),
        "blocks",
    )
    if server_of(before) == server_of(model):
        return False
    if has_secret(over, section, "api_key", "extra_body"):
        return True
    if section == "chat":
        # Roles with a key of their own may use the common model.
        return any(
            has_secret(over, role, "api_key", "extra_body") and not has_secret(over, role, "model") for role in ROLES
        )
    # A role gets the common fields, but not the common key.
    is_role = section in ROLES or section.startswith("offered_judges.")
    return is_role and any(has_secret(data, "chat", "extra_body") for data in (over, own))


def _sections(data: Mapping[str, Any]) -> list[str]:
    """Return the names of the sections of models, those on offer included."""
    return ["chat", *ROLES, "generator", *(f"{group}.{name}" for group in _OFFERS for name in _part(data, group))]


def _part(data: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """Return a section, or a group of models on offer; empty if there is none."""
    group, _, name = section.partition(".")
    part = _fields(data.get(group))
    return _fields(part.get(name)) if name else part


def _remove(data: dict[str, Any], section: str, field: str) -> None:
    """Remove a field of a section, or all of it without a field."""
    group, _, name = section.partition(".")
    if field:
        _put(data, section, {key: value for key, value in _part(data, section).items() if key != field})
    elif name:
        data[group] = {key: value for key, value in _part(data, group).items() if key != name}
    else:
        data.pop(group)


def _fields(part: Any) -> Mapping[str, Any]:
    if isinstance(part, BaseModel):
        return part.model_dump(exclude_unset=True)
    return part if isinstance(part, Mapping) else {}


def _put(data: dict[str, Any], section: str, part: Mapping[str, Any]) -> None:
    """Replace a section."""
    group, _, name = section.partition(".")
    data[group] = {**_part(data, group), name: part} if name else part


def _find_or_warn(text: str | None) -> str | None:
    """Return the key, or None: commands that need no model must not fail for it."""
    try:
        return find_key(text)
    except GemsError as error:
        _warn(f"{error.message} {error.hint}")
        return None


@cache
def _warn(message: str) -> None:
    """Log a warning once."""
    logger.warning(message)


def find_key(text: str | None) -> str | None:
    """Return the key that `env:NAME` or `keyring:NAME` names; any other text is the key itself.

    Raises:
        ConfigurationError: the variable is not set, or the keyring has no such entry or cannot be read.
        MissingExtraError: keyring is not installed.
    """
    named = _REFERENCE.fullmatch(text or "")
    if named is None:
        return text
    where, name = named.groups()
    hint = f"{config_file()} names it. Run `gems setup` again."
    if where == "env":
        if key := os.environ.get(name):
            return key
        raise ConfigurationError(f"The key in the environment variable {name} is not set.", hint=hint)
    if (found := read_keyring(name)) is None:
        raise ConfigurationError(f"The keyring has no key {name!r} of {SERVICE}.", hint=hint)
    return found


def read_keyring(name: str) -> str | None:
    """Return a key from the keyring, None if there is none; raises as `find_key`."""
    with _keyring() as keyring:
        key: str | None = keyring.get_password(SERVICE, name)
    return key


def write_keyring(name: str, key: str) -> None:
    """Store a key in the keyring; raises as `find_key`."""
    with _keyring() as keyring:
        keyring.set_password(SERVICE, name, key)


@contextmanager
def _keyring() -> Iterator[Any]:
    try:
        import keyring  # noqa: PLC0415 - an extra
        from keyring.errors import KeyringError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("Storing keys in a keyring", "keyring") from error
    try:
        yield keyring
    except KeyringError as error:
        hint = "Unlock it, or set the key in the environment."
        raise ConfigurationError(f"The keyring cannot be used: {str(error).rstrip('.')}.", hint=hint) from error


def read_config(path: Path) -> dict[str, str]:
    """Return the variables in a `.env`; empty if there is none. Raises ConfigurationError if it cannot be read."""
    try:
        return {name: value for name, value in dotenv_values(path).items() if value}
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def change_config(path: Path, changes: Mapping[str, str | None]) -> Path | None:
    """Set variables in a `.env`, remove those that are None, and keep every other line.

    Both files are for their owner only. Raises ConfigurationError if they cannot be read or written.

    Returns:
        The copy of the file as it was before, or None if there was none.
    """
    try:
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with changing(path):
            copy = _change(path, changes)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    return copy


def _change(path: Path, changes: Mapping[str, str | None]) -> Path | None:
    before = path.read_text(encoding="utf-8") if path.exists() else None
    lines, left = list[str](), dict(changes)
    for binding in parse_stream(io.StringIO(before or "")):
        line = binding.original.string
        if binding.key is None or binding.key not in changes:
            lines.append(line)
        elif (value := left.pop(binding.key, None)) is not None:
            blank = line[: len(line) - len(line.lstrip())]
            lines.append(blank + _line(binding.key, value))
    text = "".join(lines)
    text += "\n" if text and not text.endswith("\n") else ""
    text += "".join(_line(name, value) for name, value in left.items() if value is not None)
    copy = None if before is None else path.with_name(f"{path.name}.before-setup")
    if copy is not None:
        write_atomically(copy, str(before).encode(), private=True)
    write_atomically(path, text.encode(), private=True)
    return copy


def _line(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'\n"


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    hint = "It must be a readable and writable file in UTF-8."
    return ConfigurationError(f"{path} cannot be read or written: {reason}.", hint=hint)
