"""A new skill's folder, with everything in it that makes it work."""

from __future__ import annotations

from pathlib import Path
from string import Template

from gems.errors import OptionError, StorageError
from gems.skills.discovery import CODE
from gems.skills.parser import MAX_NAME, RESERVED, is_skill_name, normalise_name

_SKELETON = Path(__file__).parent / "skeleton"
# So that no tool takes a template for a module.
_TEMPLATE_SUFFIX = ".tmpl"


def create_skill(name: str, parent: Path, *, author: str = "me", with_graph: bool = False) -> Path:
    """Write a working skeleton. Blocking.

    Args:
        name: Lower-case letters, digits and single hyphens.
        parent: The folder that gets the skill's folder.
        author: Named in the front matter.
        with_graph: Whether it brings a `graph.py`.

    Returns:
        The skill's folder.

    Raises:
        OptionError: the name cannot be a skill's, or the folder is there already.
        StorageError: it cannot be written.
    """
    if not is_skill_name(name):
        like = normalise_name(name)[:MAX_NAME].strip("-")
        like = f"my-{like}" if like in RESERVED else like or "my-skill"
        raise OptionError(f"{name[:80]!r} cannot be a skill's name.", hint=f"Call it for example {like}.")
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
        raise OptionError(f"{folder} is there already.", hint="Choose another name, or delete it.") from None
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}.") from None
    return folder
