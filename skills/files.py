"""Read files below a skill's folder safely: text, guidance, and files that the guidance names."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from gems.errors import SkillError
from gems.skills.models import Skill
from gems.skills.parser import Document, read_document

MAX_BYTES = 1_000_000
"""Larger files are rejected."""
MAX_CHARACTERS = 40_000
"""Limit for a body and its referenced files: about 10,000 tokens."""
_MENTION = re.compile(
    r"(?<![\w/.:%-])((?:\.{1,2}/)*(?:[\w.-]+/)*[\w.-]+\.(?:md|markdown|txt|rst|csv|tsv|jsonl?|ya?ml|toml))(?![\w/])"
)
_REFERENCE = re.compile(r"(?:\.{1,2}/)*references/.*\.(?:md|txt)")
_OWN_FILES = frozenset({"skill.md", "graph.py", "examples.jsonl"})


def read_text(folder: Path, relative: str) -> str:
    """Return the text of a file in a skill's folder, with plain line feeds and without a byte order mark.

    Blocking. Raises `SkillError` if the path leaves the folder, or for a missing, large or non-UTF-8 file.
    """
    raw = read_bytes(folder, relative)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        if b"\0" in raw:
            raise SkillError(f"{relative} is not a text file.") from None
        raise SkillError(f"{relative}, line {line}, is not UTF-8.", hint="Save it as UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(folder: Path, relative: str) -> bytes:
    """Return the bytes of a file in a skill's folder; raises as `read_text`."""
    path = within(folder, relative)
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            # A pipe or a device may never end.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SkillError(f"{relative} is not a regular file.")
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SkillError(f"There is no file {relative} in {folder}.") from None
    except OSError as error:
        raise SkillError(f"{relative} in {folder} cannot be read: {error.strerror or error}.") from None
    if len(raw) > MAX_BYTES:
        raise SkillError(f"{relative} in {folder} has more than {MAX_BYTES:,} bytes.")
    return raw


def within(folder: Path, relative: str) -> Path:
    """Return the path of a file in a skill's folder; raise `SkillError` if `..` or a link leaves it."""
    parts = PurePosixPath(relative.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or Path(relative).drive or "\0" in relative:
        raise SkillError(f"{relative[:200]!r} leads out of the skill's folder.")
    path = folder / parts
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except UnicodeEncodeError:
        raise SkillError(f"{relative[:200]!r} is not a valid file name.") from None
    except (OSError, RuntimeError):  # circular links
        inside = False
    if not inside:
        raise SkillError(f"{relative} in {folder} is a link that leads out of the skill's folder.")
    return path


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without blocking: opening a pipe would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


async def read_guidance(skill: Skill, amend: Callable[[str], str] = str) -> tuple[str, list[str]]:
    """Return the skill's body with the text files that it names, and warnings about unreadable ones.

    `amend` returns the body with the changes that were adopted.
    """
    body = amend(await read_body(skill))
    faults: list[str] = []
    if len(body) > MAX_CHARACTERS:
        faults.append(f"Of the skill {skill.name} only the first {MAX_CHARACTERS:,} characters are sent.")
        body = body[:MAX_CHARACTERS]
    texts, ignored = await asyncio.to_thread(read_references, skill, body)
    faults += [f"A file named by the skill {skill.name} is ignored: {reason}" for reason in ignored.values()]
    parts = [body, *(f"## {relative}\n\n{text}" for relative, text in texts.items())]
    return "\n\n".join(part for part in parts if part), faults


def read_references(skill: Skill, body: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of the files that a body names, and why others are not sent, by path. Blocking.

    Body and texts have at most `MAX_CHARACTERS` together.
    """
    texts, ignored, size = dict[str, str](), dict[str, str](), len(body)
    for relative in find_references(body, skill.folder):
        try:
            text = _read_reference(skill, relative).strip()
        except SkillError as error:
            ignored[relative] = error.message
            continue
        if size + len(text) > MAX_CHARACTERS:
            ignored[relative] = f"{relative} is too long: all texts may have {MAX_CHARACTERS:,} characters together."
        else:
            size += len(text)
            texts[relative] = text
    return texts, ignored


async def read_body(skill: Skill) -> str:
    """Return the text below the skill's front matter; raises as `read_guidance`."""
    if skill.body is not None or skill.folder is None:
        return skill.body or ""
    document = await asyncio.to_thread(_read_skill_file, skill, skill.folder)
    if not document.is_usable:
        faults = " ".join(str(f) for f in document.findings if f.level == "unusable")
        raise SkillError(f"The skill {skill.name} has changed and cannot be used: {faults}")
    return document.body


def _read_skill_file(skill: Skill, folder: Path) -> Document:
    text = read_text(folder, skill.file)
    return read_document(text, folder.name, file=skill.file, has_code=skill.runs_code)


async def read_reference(skill: Skill, relative: str) -> str:
    """Return the text of a file in the skill's folder; raises as `read_text`, or without a folder."""
    return await asyncio.to_thread(_read_reference, skill, relative)


def _read_reference(skill: Skill, relative: str) -> str:
    if skill.folder is None:
        raise SkillError(f"The skill {skill.name} has no folder, so there is no {relative}.")
    if any(part.startswith(".") and part != ".." for part in PurePosixPath(relative).parts):
        raise SkillError(f"{relative} is hidden, and hidden files are not sent.")
    text = read_text(skill.folder, relative)
    if "\0" in text:
        raise SkillError(f"{relative} is not a text file.")
    return text


def find_references(body: str, folder: Path | None) -> list[str]:
    """Return the files that a body names, as paths relative to the skill's folder, without duplicates.

    These are targets of Markdown links, `references/` files, and other documents that exist in the folder:
    a path in a sentence may as well name a file to be made. Blocking.
    """
    mentioned = [path for path in map(_normalise_path, _MENTION.findall(body)) if _is_meant(path, folder)]
    found = dict.fromkeys([*mentioned, *map(_normalise_path, _link_targets(body))])
    return [path for path in found if path != "." and path.lower() not in _OWN_FILES]


def _normalise_path(path: str) -> str:
    return str(PurePosixPath(path.replace("\\", "/")))


def _is_meant(path: str, folder: Path | None) -> bool:
    if _REFERENCE.fullmatch(path):
        return True
    return folder is not None and ".." not in PurePosixPath(path).parts and os.path.lexists(folder / path)


def _link_targets(body: str) -> Iterator[str]:
    """Yield the paths of links and images, without anchors; those with a scheme or a host are none."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - takes time, and few skills need it

    if "](" not in body and "]:" not in body:
        return
    for block in MarkdownIt("commonmark").parse(body):
        for token in block.children or ():
            target = str(token.attrs.get("href") or token.attrs.get("src") or "")
            try:
                url = urlsplit(target)
            except ValueError:  # such as an incomplete IPv6 address
                continue
            if url.path and not url.scheme and not url.netloc:
                yield unquote(url.path)
