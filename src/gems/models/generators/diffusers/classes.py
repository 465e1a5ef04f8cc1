"""What the pipeline classes of the installed Diffusers say of themselves, read from their source.

Nothing is imported, since importing one class takes seconds. The signature of a class's call says what it draws,
edits or inpaints, which arguments it takes, and why it cannot be used, so that classes of later versions need no
entry here.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

Task = Literal["draw", "edit", "inpaint"]

REQUIRED = object()
"""Default of a parameter that has none."""

_SIBLINGS: tuple[tuple[Task, str], ...] = (("edit", "Img2Img"), ("inpaint", "Inpaint"))
_NEEDS_IMAGE = re.compile(r"Img2Img|Inpaint|Edit|Pix2Pix|I2I|Fill")
_IMAGES = ("image", "images")
_MASKS = ("mask_image", "mask")
_SIZED = ("__call__", "check_inputs", "prepare_latents")
_OWN_PRODUCTS = (
    ("makes videos", r"video|num_frames|^frames$|^fps$"),
    ("makes audio", r"audio|lyrics|^duration$"),
    ("makes 3D objects", r"^frame_size$"),
    ("writes text", r"^messages$|^gen_length$"),
    ("makes layers", r"^layers$"),
    ("needs a control image or an adapter", r"^control|controlnet|^adapter_|^hint$"),
    ("is made of several models, of which a directory contains one", r"^prior_num_inference_steps$"),
    ("varies or enlarges images", r"^noise_level$|^original_image$"),
)
_BY_NAME = (
    ("makes embeddings for another pipeline", r"Prior"),
    ("varies or enlarges images", r"SuperResolution|Upscale|Upsample|Refiner"),
    ("draws 64x64 pixels, for other models to enlarge", r"^IF[A-Z]?\w*Pipeline$"),
    ("reads prompts in JSON that another model writes", r"^BriaFibo"),
)
"""What the signature does not tell, from the documentation of the classes."""


@dataclass(frozen=True)
class PipelineClass:
    """A pipeline class.

    Attributes:
        name: Its name.
        parameters: Parameters of its call and their defaults: REQUIRED if there is none, Ellipsis if it is no literal.
        components: Names that its constructor needs.
        options: All names that its constructor takes.
        methods: Names and syntax trees of its own methods.
        deprecated: Whether Diffusers calls it deprecated.
    """

    name: str
    parameters: Mapping[str, Any]
    components: frozenset[str]
    options: frozenset[str]
    methods: Mapping[str, ast.FunctionDef]
    deprecated: bool

    @cached_property
    def refusal(self) -> str:
        """Why it cannot be used, as the predicate of a sentence; empty if it can."""
        if self.deprecated:
            return "is deprecated by Diffusers"
        for reason, pattern in _OWN_PRODUCTS:
            if any(re.search(pattern, name) for name in self.parameters):
                return reason
        for reason, pattern in _BY_NAME:
            if re.search(pattern, self.name):
                return reason
        if "prompt" not in self.parameters:
            return "takes no prompt"
        known = {"prompt", *_IMAGES, *_MASKS}
        if needed := [name for name, value in self.parameters.items() if value is REQUIRED and name not in known]:
            return f"needs {', '.join(needed)}"
        return ""

    @cached_property
    def tasks(self) -> frozenset[Task]:
        """What it does by itself; empty if it is refused."""
        if self.refusal:
            return frozenset()
        if not self.image_parameter:
            return frozenset({"draw"})
        if self.mask_parameter:
            return frozenset({"inpaint"})
        needs = _NEEDS_IMAGE.search(self.name) or "strength" in self.parameters
        needs = needs or self.parameters[self.image_parameter] is REQUIRED
        return frozenset({"edit"}) if needs else frozenset({"draw", "edit"})

    @property
    def image_parameter(self) -> str:
        """The parameter for images to edit; empty if there is none."""
        return next((name for name in _IMAGES if name in self.parameters), "")

    @property
    def mask_parameter(self) -> str:
        """The parameter for a mask, white where the image is to be changed; empty if there is none."""
        return next((name for name in _MASKS if name in self.parameters), "")

    @property
    def interruptible(self) -> bool:
        """Whether the call reports its steps."""
        return "callback_on_step_end" in self.parameters

    @property
    def encodes_images(self) -> bool:
        """Whether its text encoder sees the images, too, so that a prompt cannot be encoded without them."""
        own = self.methods.get("encode_prompt")
        return own is not None and any(name in _read_parameters(own) for name in ("image", "images"))

    @cached_property
    def may_lose_steps(self) -> bool:
        """Whether a low strength may leave no step at all, since the class rounds steps times strength down."""
        schedule = self.methods.get("get_timesteps")
        return schedule is not None and "int(num_inference_steps * strength)" in ast.unparse(schedule)

    @cached_property
    def guidance(self) -> tuple[str, bool]:
        """The parameter for the guidance scale (empty if there is none), and whether negative prompts depend on it.

        Guidance of a distilled model is an input of the model, which knows no negative prompt.
        """
        takes_negative = bool({"negative_prompt", "negative_prompt_embeds"} & self.parameters.keys())
        if "true_cfg_scale" in self.parameters and not self._mentions("do_classifier_free_guidance"):
            # FLUX.1 has both: its guidance is distilled, and classifier-free guidance is off.
            if self.parameters.get("guidance_scale") is None:
                return "true_cfg_scale", takes_negative
            return "guidance_scale", False
        if "guidance_scale" in self.parameters:
            return "guidance_scale", takes_negative
        if "guider" in self.options:
            return "guider", takes_negative
        return "", False

    def default(self, name: str, kind: type) -> Any:
        """Return a parameter's default as a number of this kind; None if it has none."""
        value = self.parameters.get(name)
        return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def find_multiple(self, pipe: Any) -> int:
        """Return the multiple of pixels to which the class rounds, or which it demands, for this loaded pipeline."""
        found = 1
        for name in _SIZED:
            method = self.methods.get(name)
            if method is None:
                continue
            for node in ast.walk(method):
                if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.FloorDiv)):
                    continue
                if ast.unparse(node.left) in ("height", "int(height)"):
                    found = math.lcm(found, _evaluate(node.right, pipe, _assignments(method)) or 1)
        return found

    def _mentions(self, word: str) -> bool:
        names = (node for method in self.methods.values() for node in ast.walk(method))
        return any(getattr(node, "id", getattr(node, "attr", getattr(node, "name", ""))) == word for node in names)


def find_class(name: str) -> PipelineClass | None:
    """Return the pipeline class of that name; None if the installed Diffusers has none, or is not installed."""
    return _read_class(name) if name in _index_classes() else None


def list_classes() -> Iterator[PipelineClass]:
    """Yield all pipeline classes by name. Takes seconds."""
    for name in sorted(_index_classes()):
        found = _read_class(name)
        if found is not None and "Pipeline" in name and found.parameters:
            yield found


@cache
def find_tasks(name: str) -> Mapping[Task, PipelineClass]:
    """Return the class for each task that a model saved as this class can do.

    Beside the class itself, these are the classes of its family that are made of the same components: a
    `ZImagePipeline` inpaints as a `ZImageInpaintPipeline`.
    """
    own = find_class(name)
    if own is None:
        return {}
    found: dict[Task, PipelineClass] = dict.fromkeys(sorted(own.tasks), own)
    stem = name.removesuffix("Pipeline")
    for task, suffix in _SIBLINGS if found.keys() & {"draw", "edit"} else ():
        other = find_class(f"{stem}{suffix}Pipeline")
        if task not in found and other is not None and task in other.tasks and other.components <= own.options:
            found[task] = other
    return found


@cache
def _index_classes() -> Mapping[str, Path]:
    """Return the file of each class in Diffusers' folder of pipelines."""
    spec = importlib.util.find_spec("diffusers")
    root = Path(spec.origin).parent / "pipelines" if spec is not None and spec.origin else None
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.py")) if root is not None else ():
        for name in re.findall(r"^class (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, path)
    return found


@cache
def _parse_file(path: Path) -> Mapping[str, ast.ClassDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


@cache
def _read_class(name: str) -> PipelineClass | None:
    node = _parse_file(_index_classes()[name])[name]
    bases = [ast.unparse(base) for base in node.bases]
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    parents = [found for base in bases if base in _index_classes() and (found := _read_class(base)) is not None]
    for parent in parents:
        methods = {**parent.methods, **methods}
    if "__call__" not in methods or "__init__" not in methods:
        return None
    parameters, options = _read_parameters(methods["__call__"]), _read_parameters(methods["__init__"])
    return PipelineClass(
        name=name,
        parameters=parameters,
        components=frozenset(option for option, value in options.items() if value is REQUIRED),
        options=frozenset(options),
        methods=methods,
        deprecated="DeprecatedPipelineMixin" in bases
        or "deprecated" in _index_classes()[name].parts
        or any(parent.deprecated for parent in parents),
    )


def _read_parameters(function: ast.FunctionDef) -> dict[str, Any]:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + [*arguments.defaults]
    pairs = [*zip(plain, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    read = {each.arg: REQUIRED if value is None else _read_literal(value) for each, value in pairs}
    read.pop("self", None)
    return read


def _read_literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


def _assignments(method: ast.FunctionDef) -> Mapping[str, ast.expr]:
    nodes = [node for node in ast.walk(method) if isinstance(node, ast.Assign)]
    return {node.targets[0].id: node.value for node in nodes if isinstance(node.targets[0], ast.Name)}


def _evaluate(node: ast.expr, pipe: Any, names: Mapping[str, ast.expr]) -> int | None:
    """Return a product of whole numbers, attributes of `pipe` and names for such; None for anything else."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factors = _evaluate(left, pipe, names), _evaluate(right, pipe, names)
            return None if None in factors else math.prod(factor or 1 for factor in factors)
        case ast.Name(id=name) if name in names:
            # A name that is assigned from itself is no constant.
            return _evaluate(names[name], pipe, {key: value for key, value in names.items() if key != name})
        case ast.Attribute():
            found: Any = pipe
            for part in ast.unparse(node).split(".")[1:] if ast.unparse(node).startswith("self.") else ():
                found = getattr(found, part, None)
            return found if isinstance(found, int) else None
    return None
