"""Bind the parts of a request to inputs of a workflow's nodes: by titles, else by what the nodes are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gems.errors import ConfigurationError
from gems.models.generators.comfyui.workflow import Input, Link, Workflow, find_ancestors

_TEXTS = ("text", "prompt", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "llama", "value", "string")
_NEGATIVE_TEXTS = ("negative_prompt", "negative", *_TEXTS)
_NAMES = {
    "prompt": _TEXTS,
    "negative": _NEGATIVE_TEXTS,
    "seed": ("seed", "noise_seed", "value"),
    "width": ("width", "value"),
    "height": ("height", "value"),
    "batch": ("batch_size", "amount", "value"),
    "steps": ("steps", "value"),
    "guidance": ("guidance", "cfg", "guidance_scale", "value"),
    "strength": ("denoise", "strength", "value"),
    "image": ("image",),
    "mask": ("image",),
    "reference": ("image",),
}
"""Names of the inputs that a part of a request may be bound to, the likeliest first."""
_ROLES = ("output", "sampler", "size", *_NAMES)
_SYNONYMS = {"negative prompt": "negative", "denoise": "strength", "source": "image", "cfg": "guidance"}
_TITLE = re.compile(r"\s*gems[\s:_-]+([a-z]+(?: prompt)?)[\s:_-]*(\d*)\s*", re.IGNORECASE)
_TITLES = ", ".join(f"`GEMS {role}`" for role in _ROLES)
_TYPES: dict[str, tuple[type, ...]] = {"prompt": (str,), "negative": (str,), "image": (str,), "mask": (str,)}
_OUTPUTS = ("SaveImage", "PreviewImage")
"""Classes of output nodes, the likeliest first; others have one of these words in their class."""
_CONDITIONS = re.compile(r"conditioning|cond\b|guider|positive|negative")
_NO_PIXELS = re.compile(r"model|clip|vae|positive|negative|control_net|conditioning|noise|guider|sigmas|sampler")
"""Inputs through which neither the sampler's latent image nor a picture comes."""
_HINT = f"Change the title of a node in ComfyUI and export the workflow again; titles are {_TITLES}."


@dataclass(frozen=True)
class Binding:
    """What of a request goes where in a workflow.

    Attributes:
        output: The node whose first image is the result.
        inputs: By part of a request (`prompt`, `negative`, `seed`, `width`, `height`, `batch`, `steps`, `guidance`,
            `strength`), the inputs that are set to it.
        image: The node that loads the source, if any.
        mask: The node that loads the mask; the same as `image` if the mask is the source's transparency.
        references: The nodes that load further images.
        sampler: The node whose steps are reported, if it is known.
        begins_with_image: Whether the sampler begins with the source, so that `strength` says how much changes.
    """

    output: str
    inputs: dict[str, tuple[Input, ...]]
    image: str | None = None
    mask: str | None = None
    references: tuple[str, ...] = ()
    sampler: str | None = None
    begins_with_image: bool = False

    def value(self, workflow: Workflow, part: str) -> object:
        """Return the workflow's own value of a part; None if it is not bound or not a literal."""
        targets = self.inputs.get(part, ())
        value = workflow.inputs_of(targets[0].node).get(targets[0].name) if targets else None
        return None if isinstance(value, list) else value

    def describe(self, workflow: Workflow) -> str:
        """Return the binding in words, for people who look for what is wrong with it."""
        parts = []
        for part in ("prompt", "negative", "seed", "width", "height", "batch", "steps", "guidance", "strength"):
            targets = [f"{workflow.describe(node)} {name}" for node, name in self.inputs.get(part, ())]
            parts.append(f"{part}: {' and '.join(targets) or 'not bound'}")
        nodes = {"image": self.image, "mask": self.mask, "output": self.output}
        parts += [f"{part}: {workflow.describe(node) if node else 'not bound'}" for part, node in nodes.items()]
        parts += [f"reference: {workflow.describe(node)}" for node in self.references]
        return "; ".join(parts)


def bind(workflow: Workflow) -> Binding:
    """Find the inputs of a workflow that a request sets.

    Raises:
        ConfigurationError: titles are unknown or do not fit their nodes; or it is not clear which output, sampler or
            prompt is meant.
    """
    return _Binder(workflow).bind()


@dataclass
class _Binder:
    workflow: Workflow
    titled: dict[str, list[str]] = field(default_factory=dict)
    """Nodes by the role in their title, in the order of their numbers."""
    inputs: dict[str, tuple[Input, ...]] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)
    """The nodes that the output depends on."""

    def bind(self) -> Binding:
        self._read_titles()
        output = self._find_output()
        self.nodes = find_ancestors(self.workflow.nodes, output)
        self._check_titled(output)
        for part in _NAMES:
            if part not in ("image", "mask", "reference") and part in self.titled:
                self.inputs[part] = tuple(t for node in self.titled[part] for t in self._titled_inputs(part, node))
        for node in self.titled.get("size", []):
            for part in ("width", "height"):
                self.inputs[part] = (*self.inputs.get(part, ()), *self._titled_inputs(part, node))
            self._bind("batch", node, ("batch_size",))
        images = [*self.titled.get("image", []), *self.titled.get("reference", [])]
        masks = self.titled.get("mask", [])
        for node in (*images, *masks):
            self._check_loads(node)
        sampler = self._find_sampler()
        begun: list[str] = []
        if sampler is not None:
            begun, found, found_masks = self._bind_sampler(sampler)
            images = images or found
            masks = masks or found_masks
        self.inputs = {part: targets for part, targets in self.inputs.items() if targets}
        if "prompt" not in self.inputs:
            what = f"No node of the workflow {self.workflow.name} was found that takes the prompt."
            raise ConfigurationError(what, hint=f"Title the node with the text `GEMS prompt`. {_HINT}")
        if "negative" not in self.inputs:
            prompts = {target.node for target in self.inputs["prompt"]}
            if negatives := self._own_negatives(prompts):
                self.inputs["negative"] = negatives
        return Binding(
            output=output,
            inputs=self.inputs,
            image=images[0] if images else None,
            mask=masks[0] if masks and images else None,
            references=tuple(images[1:]),
            sampler=sampler,
            begins_with_image=bool(images) and images[0] in begun,
        )

    def _read_titles(self) -> None:
        numbered: dict[str, list[tuple[int, str]]] = {}
        for node in self.workflow.nodes:
            title = self.workflow.title_of(node)
            if (found := _TITLE.fullmatch(title)) is None:
                continue
            role = found[1].lower()
            role = _SYNONYMS.get(role, role)
            if self.workflow.class_of(node) == f"Gems{role.capitalize()}":
                # One of our own nodes under its own name, e.g. GEMS Verify.
                continue
            if role not in _ROLES:
                what = f"The workflow {self.workflow.name} has a node titled {title!r}, which means nothing."
                raise ConfigurationError(what, hint=f"Titles are {_TITLES}.")
            numbered.setdefault(role, []).append((int(found[2] or 0), node))
        self.titled = {role: [node for _, node in sorted(found)] for role, found in numbered.items()}
        for role in ("output", "sampler", "image", "mask"):
            if len(self.titled.get(role, [])) > 1:
                what = f"The workflow {self.workflow.name} has several nodes titled `GEMS {role}`."
                raise ConfigurationError(what, hint="Leave the title to one of them.")

    def _check_titled(self, output: str) -> None:
        """Raise an error for a titled node that does not lead to `output`: it would have no effect."""
        for role, node in ((role, node) for role, titled in self.titled.items() for node in titled):
            if node not in self.nodes:
                what = f"{self.workflow.describe(node)} does not lead to {self.workflow.describe(output)}."
                hint = f"Connect it, or give the title `GEMS {role}` to a node that does."
                raise ConfigurationError(f"In the workflow {self.workflow.name}, {what}", hint=hint)

    def _titled_inputs(self, part: str, node: str) -> list[Input]:
        """Return the inputs of a titled node that a part is bound to."""
        inputs = self.workflow.inputs_of(node)
        names = [name for name in _NAMES[part] if name in inputs]
        if part in ("prompt", "negative"):
            if not names:
                others = [name for name, value in inputs.items() if isinstance(value, str) and "_name" not in name]
                names = others if len(others) == 1 else []
            # Encoders with several text models have an input for each; other nodes have one text.
            several = [name for name in names if name in _TEXTS[2:8]]
            names = several if len(several) > 1 else names[:1]
        if not names:
            what = f"{self.workflow.describe(node)} of the workflow {self.workflow.name} has no input for the {part}."
            raise ConfigurationError(what, hint=f"Give the title to a node with one of: {', '.join(_NAMES[part])}.")
        return [Input(node, name) for name in (names if part in ("prompt", "negative") else names[:1])]

    def _check_loads(self, node: str) -> None:
        if not isinstance(self.workflow.inputs_of(node).get("image"), str):
            what = f"{self.workflow.describe(node)} of the workflow {self.workflow.name} loads no image."
            raise ConfigurationError(what, hint="Give the title to a node Load Image or Load Image (as Mask).")

    def _find_output(self) -> str:
        if "output" in self.titled:
            return self.titled["output"][0]
        for word in _OUTPUTS:
            found = [node for node in self.workflow.nodes if self.workflow.class_of(node) == word]
            found = found or [
                node for node in self.workflow.nodes if re.search(word[:4], self.workflow.class_of(node))
                and any("image" in name for name, _ in self.workflow.links(node))
            ]  # fmt: skip
            if len(found) == 1:
                return found[0]
            if found:
                what = f"The workflow {self.workflow.name} has {len(found)} outputs: {self._list(found)}."
                raise ConfigurationError(what, hint="Title the one to use `GEMS output`, and export it again.")
        what = f"The workflow {self.workflow.name} has no node that saves or previews an image."
        raise ConfigurationError(what, hint="Add a node Save Image, or title the output node `GEMS output`.")

    def _find_sampler(self) -> str | None:
        """Return the sampler; None if there is none and the prompt's node has a title."""
        if "sampler" in self.titled:
            return self.titled["sampler"][0]
        ordered = [node for node in self.workflow.nodes if node in self.nodes]
        linked = {node: dict(self.workflow.links(node)) for node in ordered}
        found = [n for n in ordered if "latent_image" in linked[n] and {"positive", "guider"} & set(linked[n])]
        found = found or [n for n in ordered if "positive" in linked[n] and "seed" in self.workflow.inputs_of(n)]
        if len(found) == 1 or (not found and "prompt" in self.inputs):
            return found[0] if found else None
        if "prompt" in self.inputs and "seed" in self.inputs:
            return None
        if not found:
            before = self.workflow.describe(self._find_output())
            what = f"The workflow {self.workflow.name} has no sampler before {before}."
            raise ConfigurationError(what, hint=f"Title the node with the text `GEMS prompt`. {_HINT}")
        what = f"The workflow {self.workflow.name} has {len(found)} samplers: {self._list(found)}."
        raise ConfigurationError(what, hint="Title the one that draws first `GEMS sampler`, and export it again.")

    def _bind_sampler(self, sampler: str) -> tuple[list[str], list[str], list[str]]:
        """Bind what is not titled yet; return the images it begins with, all images, and the masks."""
        link = self.workflow.link
        guider, noise, sigmas = link(sampler, "guider"), link(sampler, "noise"), link(sampler, "sigmas")
        guiding = guider.node if guider else sampler
        self._bind("seed", (noise.node if noise else sampler), ("seed", "noise_seed"))
        scheduling = self._find_upstream(sigmas, "steps") if sigmas else sampler
        if scheduling is not None:
            self._bind("steps", scheduling, ("steps",))
            self._bind("strength", scheduling, ("denoise",))
        positive = self._follow_condition(link(guiding, "positive") or link(guiding, "conditioning"))
        negative = self._follow_condition(link(guiding, "negative"))
        encoders = self._bind_texts("prompt", positive)
        self._bind_texts("negative", [node for node in negative if node not in encoders])
        guides = [node for node in positive if "guidance" in self.workflow.inputs_of(node)]
        self._bind("guidance", guides[0] if guides else guiding, ("guidance", "cfg"))
        begun, masks = self._find_loaders([link(sampler, "latent_image")])
        if "width" not in self.inputs:
            self._bind_size(self._upstream(link(sampler, "latent_image")))
        seen = [one for node in positive for one in self._picture_links(node)]
        conditions, more = self._find_loaders(seen)
        return begun, list(dict.fromkeys([*begun, *conditions])), list(dict.fromkeys([*masks, *more]))

    def _bind(self, part: str, node: str, names: Sequence[str]) -> None:
        if part in self.inputs:
            return
        for name in names:
            if name in self.workflow.inputs_of(node) and (target := self._resolve(node, name, part)) is not None:
                self.inputs[part] = (target,)
                return

    def _resolve(self, node: str, name: str, part: str) -> Input | None:
        """Return the input with the literal that an input is or is linked to; None if that is not clear."""
        kinds = _TYPES.get(part, (int, float))
        seen = set[str]()
        while (link := self.workflow.link(node, name)) is not None and link.node not in seen:
            node = link.node
            seen.add(node)
            inputs = self.workflow.inputs_of(node)
            literals = [n for n, value in inputs.items() if isinstance(value, kinds) and not isinstance(value, bool)]
            linked = [n for n, _ in self.workflow.links(node)]
            named = [n for n in (*_NAMES[part], name) if n in literals]
            if len(linked) == 1 and not literals:
                name = linked[0]
            elif named and not linked:
                name = named[0]
            elif len(literals) == 1 and not linked:
                name = literals[0]
            else:
                return None
        value = self.workflow.inputs_of(node).get(name)
        return Input(node, name) if isinstance(value, kinds) and not isinstance(value, bool) else None

    def _follow_condition(self, link: Link | None) -> list[str]:
        """Return the nodes through which conditioning comes, the nearest first."""
        found, pending = list[str](), [link] if link else []
        while pending:
            node, slot = pending.pop(0)
            if node in found or self.workflow.class_of(node) == "ConditioningZeroOut":
                continue
            found.append(node)
            linked = dict(self.workflow.links(node))
            if {"positive", "negative"} <= set(linked):
                pending.append(linked["negative" if slot == 1 else "positive"])
                continue
            more = [each for name, each in linked.items() if _CONDITIONS.search(name)]
            # Nodes such as Reroute have one input, whatever its name.
            pending += more or (list(linked.values()) if len(self.workflow.inputs_of(node)) == 1 else [])
        return found

    def _bind_texts(self, part: str, nodes: Iterable[str]) -> set[str]:
        """Bind a text to the encoder among `nodes`, and return the encoders."""
        encoders = {node: names for node in nodes if (names := self._text_names(node))}
        if part in self.inputs or not encoders:
            return set(encoders)
        targets = [self._resolve(node, name, part) for node, names in encoders.items() for name in names]
        if part == "prompt" and (len(encoders) > 1 or None in targets):
            unclear = "several texts" if len(encoders) > 1 else "a text that other nodes make"
            what = f"The prompt of the workflow {self.workflow.name} comes from {unclear}: {self._list(encoders)}."
            raise ConfigurationError(what, hint=f"Title the node with the text to replace `GEMS prompt`. {_HINT}")
        if len(encoders) == 1:
            self.inputs[part] = tuple(dict.fromkeys(target for target in targets if target is not None))
        return set(encoders)

    def _text_names(self, node: str) -> list[str]:
        inputs = self.workflow.inputs_of(node)
        return [n for n in _TEXTS if isinstance(inputs.get(n), str) or self.workflow.link(node, n) is not None]

    def _own_negatives(self, prompts: set[str]) -> tuple[Input, ...]:
        """Return the input for the negative prompt that a node has beside the one for the prompt."""
        inputs = {node: self.workflow.inputs_of(node) for node in prompts}
        return tuple(Input(n, "negative_prompt") for n in inputs if isinstance(inputs[n].get("negative_prompt"), str))

    def _upstream(self, link: Link | None) -> list[str]:
        """Return the nodes through which a picture or a latent image comes, the nearest first."""
        return [node for node, _, _ in self._walk([link])]

    def _walk(self, links: Iterable[Link | None]) -> Iterator[tuple[str, int, bool]]:
        """Yield nodes through which pictures come, the used output of each, and whether it is a mask."""
        pending = [(link, False) for link in links if link is not None]
        seen = set[tuple[Link, bool]]()
        while pending:
            link, is_mask = pending.pop(0)
            if (link, is_mask) in seen:
                continue
            seen.add((link, is_mask))
            yield link.node, link.slot, is_mask
            for name, each in self.workflow.links(link.node):
                # Its `positive` and `negative` do not lead to the latent image, `pixels` does.
                if "mask" in name or not _NO_PIXELS.search(name):
                    pending.append((each, is_mask or "mask" in name))

    def _find_loaders(self, links: Iterable[Link | None]) -> tuple[list[str], list[str]]:
        """Return the nodes that load pictures and those that load masks."""
        images, masks = list[str](), list[str]()
        for node, _, is_mask in self._walk(links):
            kind, file = self.workflow.class_of(node), self.workflow.inputs_of(node).get("image")
            if "LoadImage" in kind and isinstance(file, str):
                (masks if is_mask or "Mask" in kind else images).append(node)
        return list(dict.fromkeys(images)), list(dict.fromkeys(masks))

    def _picture_links(self, node: str) -> list[Link]:
        """Return the links by which pictures come to a node of the conditioning; not those of a control net."""
        linked = dict(self.workflow.links(node))
        if "control_net" in linked:
            return []
        return [each for name, each in linked.items() if "mask" in name or not _NO_PIXELS.search(name)]

    def _find_upstream(self, link: Link, name: str) -> str | None:
        """Return the nearest node with an input of this name that leads to `link` by inputs for sigmas."""
        node = link.node
        while name not in self.workflow.inputs_of(node):
            following = self.workflow.link(node, "sigmas")
            if following is None:
                return None
            node = following.node
        return node

    def _bind_size(self, nodes: Sequence[str]) -> None:
        """Bind the size to the first of `nodes` that has one, and to all nodes with the same literals."""
        sized = [node for node in nodes if {"width", "height"} <= set(self.workflow.inputs_of(node))]
        for node in sized:
            width, height = self._resolve(node, "width", "width"), self._resolve(node, "height", "height")
            if width is None or height is None:
                continue
            inputs = self.workflow.inputs_of(node)
            size = (inputs["width"], inputs["height"])
            same = [n for n in self.nodes if self._size_of(n) == size and n != node and width.node == node]
            self.inputs["width"] = (width, *(Input(n, "width") for n in sorted(same)))
            self.inputs["height"] = (height, *(Input(n, "height") for n in sorted(same)))
            self._bind("batch", node, ("batch_size",))
            return

    def _size_of(self, node: str) -> tuple[object, object]:
        inputs = self.workflow.inputs_of(node)
        return inputs.get("width"), inputs.get("height")

    def _list(self, nodes: Iterable[str]) -> str:
        return ", ".join(self.workflow.describe(node) for node in nodes)
