"""ComfyUI workflows in API format: read one, change inputs of its nodes, leave out nodes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gems.errors import ModelFilesError

Nodes = dict[str, dict[str, Any]]
"""Nodes by their id, each with `class_type`, `inputs` and perhaps `_meta`."""

_MAX_BYTES = 32 * 2**20
_HINT = "In ComfyUI open the workflow and use Workflow > Export (API); older versions: Save (API Format)."


class Link(NamedTuple):
    """An output of a node, as other nodes name it in their inputs."""

    node: str
    slot: int


class Input(NamedTuple):
    """An input of a node."""

    node: str
    name: str


@dataclass(frozen=True)
class Workflow:
    """A workflow in API format. `name` is its file's name; `nodes` must not be changed."""

    name: str
    nodes: Nodes = field(repr=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Workflow:
        """Read a workflow from a file. Blocking.

        Raises:
            ModelFilesError: the file is missing, or not a workflow in API format.
        """
        file = Path(path).expanduser()
        try:
            if file.stat().st_size > _MAX_BYTES:
                raise ModelFilesError(f"The workflow {file} has more than {_MAX_BYTES:,} bytes.", hint=_HINT)
            parsed = json.loads(file.read_text("utf-8-sig"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            hint = f"Check the path in the spec, which begins in {Path.cwd()}."
            raise ModelFilesError(f"The workflow {file} cannot be read: {reason}.", hint=hint) from error
        except (ValueError, RecursionError) as error:
            raise ModelFilesError(f"The workflow {file} is not valid JSON: {error}.", hint=_HINT) from error
        return cls(file.name, _check_nodes(parsed, file))

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that tell this workflow from others, whatever its nodes are titled."""
        plain = {key: [node["class_type"], node["inputs"]] for key, node in self.nodes.items()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]

    def class_of(self, node: str) -> str:
        """Return the class of a node."""
        return str(self.nodes[node]["class_type"])

    def title_of(self, node: str) -> str:
        """Return the title of a node; empty if it has none."""
        title = self.nodes[node].get("_meta", {}).get("title")
        return title if isinstance(title, str) else ""

    def inputs_of(self, node: str) -> dict[str, Any]:
        """Return the inputs of a node by name: literals, and links as lists."""
        inputs: dict[str, Any] = self.nodes[node]["inputs"]
        return inputs

    def link(self, node: str, name: str) -> Link | None:
        """Return the output that an input of a node is linked to; None if it is a literal or absent."""
        return as_link(self.nodes, self.inputs_of(node).get(name))

    def links(self, node: str) -> Iterator[tuple[str, Link]]:
        """Yield the linked inputs of a node by name."""
        for name in self.inputs_of(node):
            if (link := self.link(node, name)) is not None:
                yield name, link

    def describe(self, node: str) -> str:
        """Return the words for a node in messages."""
        return describe_node(self.nodes, node)


def describe_node(nodes: Mapping[str, Mapping[str, Any]], node: str) -> str:
    """Return the words for a node in messages: its class, its title if it has another one, and its id."""
    if node not in nodes:
        return f"node {node}"
    kind = str(nodes[node]["class_type"])
    title = (nodes[node].get("_meta") or {}).get("title")
    shown = f' "{title}"' if isinstance(title, str) and title and title != kind else ""
    return f"{kind}{shown} (node {node})"


def as_link(nodes: Nodes, value: Any) -> Link | None:
    """Return the link that an input's value is; None for literals."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and str(value[0]) in nodes:
        return Link(str(value[0]), value[1])
    return None


def find_ancestors(nodes: Nodes, node: str) -> set[str]:
    """Return the nodes that an output of `node` depends on, with itself."""
    found, pending = set[str](), [node]
    while pending:
        each = pending.pop()
        if each not in found:
            found.add(each)
            pending += [link.node for value in nodes[each]["inputs"].values() if (link := as_link(nodes, value))]
    return found


def copy_for(workflow: Workflow, output: str) -> Nodes:
    """Return a copy of the nodes that `output` depends on, without titles."""
    kept = find_ancestors(workflow.nodes, output)
    nodes = {key: node for key, node in workflow.nodes.items() if key in kept}
    return {key: {"class_type": n["class_type"], "inputs": deepcopy(n["inputs"])} for key, n in nodes.items()}


def leave_out(nodes: Nodes, unused: Iterable[str], output: str, optional: Callable[[str], frozenset[str]]) -> bool:
    """Remove nodes, and with them those that cannot do without; False if `output` is among these.

    `optional` returns the names of the optional inputs of a class. Inputs that lead to removed nodes are removed.
    """
    pending = [node for node in unused if node in nodes]
    while pending:
        gone = pending.pop()
        nodes.pop(gone, None)
        for key, node in nodes.items():
            for name, value in list(node["inputs"].items()):
                if not (isinstance(value, list) and len(value) == 2 and str(value[0]) == gone):
                    continue
                if name in optional(node["class_type"]):
                    del node["inputs"][name]
                elif key not in pending:
                    pending.append(key)
    if output not in nodes:
        return False
    kept = find_ancestors(nodes, output)
    for key in [key for key in nodes if key not in kept]:
        del nodes[key]
    return True


def _check_nodes(parsed: Any, file: Path) -> Nodes:
    if isinstance(parsed, dict) and isinstance(parsed.get("prompt"), dict) and "class_type" not in parsed["prompt"]:
        # The body of a request to the server, as programs keep it.
        parsed = parsed["prompt"]
    if isinstance(parsed, dict) and isinstance(parsed.get("nodes"), list) and "links" in parsed:
        raise ModelFilesError(
            f"The workflow {file} is in the format of ComfyUI's editor, not in API format.", hint=_HINT
        )
    if not isinstance(parsed, dict) or not parsed:
        raise ModelFilesError(f"{file} is not a workflow in API format: it is no object of nodes.", hint=_HINT)
    for key, node in parsed.items():
        usable = (
            isinstance(node, dict)
            and isinstance(node.get("class_type"), str)
            and isinstance(node.get("inputs"), dict)
            and isinstance(node.get("_meta", {}), dict)
        )
        if not usable:
            what = f"{file} is not a workflow in API format: {key[:40]!r} is no node with `class_type` and `inputs`."
            raise ModelFilesError(what, hint=_HINT)
    return parsed
