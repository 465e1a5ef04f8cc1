"""Create a new skill from the skeleton."""

from __future__ import annotations

from pathlib import Path
from string import Template

from gems.errors import OptionError, StorageError
from gems.skills.discovery import CODE
from gems.skills.models import normalise_name
from gems.skills.parser import MAX_NAME, RESERVED, is_skill_name

_SKELETON = Path(__file__).parent / "skeleton"
# Keeps tools from treating the template as a module.
_TEMPLATE_SUFFIX = ".tmpl"


def create_skill(name: str, parent: Path, *, author: str = "me", with_graph: bool = False) -> Path:
    """Write a working skeleton and return its folder. Blocking.

    `name` is in lower-case letters, digits and single hyphens; `parent` gets the skill's folder.

    Raises `OptionError` if the name is invalid or the folder exists, `StorageError` if it cannot be written.
    """
    if not is_skill_name(name):
        like = normalise_name(name)[:MAX_NAME].strip("-")
        like = f"my-{like}" if like in RESERVED else like or "my-skill"
        raise OptionError(f"Invalid skill name: {name[:80]!r}.", hint=f"Use for example {like}.")
    folder = parent / name
    words = {"name": name, "title": name.replace("-", " "), "author": author}
    files = {path.name.removesuffix(_TEMPLATE_SUFFIX): path for path in sorted(_SKELETON.iterdir())}
    if not with_graph:
        files.pop(CODE)
    try:
        folder.mkdir(parents=True)
        for target, path in files.items():
            text = Template(path.read_text(encoding="utf-8")).safe_substitute(words)
            (folder / target).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise OptionError(f"{folder} already exists.", hint="Choose another name, or delete it.") from None
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}.") from None
    return folder
