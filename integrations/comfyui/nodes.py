"""The nodes: Verify, Run, Repair, Decompose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

from .backends import GemsNodeError, open_backend
from .tensors import decode_image, draw_boxes, encode_mask, encode_png

_PROMPT = ("STRING", {"multiline": True, "default": "", "tooltip": "What the image should show, in your own words."})
_SERVER = (
    "STRING",
    {
        "default": "http://127.0.0.1:8765",
        "tooltip": "Address of `gems serve`. Empty: GEMS in this process, if it is installed here.",
    },
)
_GENERATOR = ("STRING", {"default": "", "tooltip": "Model spec, only without a server: diffusers:z-image-turbo, ..."})
_MARKS = {"yes": "+", "no": "-", "unknown": "?"}
_PARTS = 100
"""Parts of one image in the progress bar."""


class _GemsNode:
    CATEGORY = "GEMS"
    FUNCTION = "execute"


class GemsVerify(_GemsNode):
    """Check images against a prompt."""

    DESCRIPTION = "Asks a chat model, requirement by requirement, whether an image shows what a prompt says."
    RETURN_TYPES = ("FLOAT", "STRING", "MASK", "BOOLEAN")
    RETURN_NAMES = ("score", "checklist", "failed", "passed")
    OUTPUT_TOOLTIPS = (
        "Share of requirements that are met, in 0 to 1; of a batch the lowest.",
        "The requirements with + (met), - (not met) or ? (unknown) and what was seen.",
        "Where something failed, as far as the chat model said where; empty if nothing did.",
        "Whether all requirements of all images are met.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return the declared inputs."""
        image = ("IMAGE", {"tooltip": "The images to check, each on its own."})
        return {"required": {"image": image, "prompt": _PROMPT}, "optional": {"server": _SERVER}}

    def execute(self, image: torch.Tensor, prompt: str, server: str = "") -> tuple[float, str, torch.Tensor, bool]:
        """Check each image of a batch `[B, H, W, C]`."""
        backend = open_backend(server)
        progress = _Progress(len(image))
        found = []
        for number, one in enumerate(image, 1):
            _check_interrupted()
            found.append(backend.verify(encode_png(one), prompt))
            progress.set(number)
        size = (image.shape[1], image.shape[2])
        masks = torch.stack([draw_boxes(size, each["requirements"]) for each in found])
        heads = [f"Image {number}\n" if len(found) > 1 else "" for number in range(1, len(found) + 1)]
        texts = [head + _list_requirements(each["requirements"]) for head, each in zip(heads, found, strict=True)]
        score, checklist = min(float(each["score"]) for each in found), "\n\n".join(texts)
        progress.tell(checklist)
        return score, checklist, masks, all(each["passed"] for each in found)


class GemsRun(_GemsNode):
    """Draw, check and improve until all requirements are met."""

    DESCRIPTION = "The whole loop of GEMS: draws, checks each requirement, improves the prompt, and draws again."
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING", "STRING", "STRING")
    RETURN_NAMES = ("image", "score", "checklist", "prompt", "run_id")
    OUTPUT_TOOLTIPS = (
        "The best image.",
        "Share of requirements that it meets, in 0 to 1.",
        "The requirements with + (met), - (not met) or ? (unknown) and what was seen.",
        "The prompt with which it was drawn.",
        "The run, for `gems show` and `gems report`.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return the declared inputs."""
        seed = {"default": 0, "min": 0, "max": 2**32 - 1, "control_after_generate": True, "tooltip": "Random seed."}
        return {
            "required": {
                "prompt": _PROMPT,
                "seed": ("INT", seed),
                "max_rounds": ("INT", {"default": 8, "min": 1, "max": 50, "tooltip": "Most rounds."}),
                "candidates": ("INT", {"default": 1, "min": 1, "max": 16, "tooltip": "Images in each round."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "An image to edit; the prompt says what to change. One of a batch."}),
                "size": ("STRING", {"default": "", "tooltip": "WIDTHxHEIGHT; empty for the generator's default."}),
                "server": _SERVER,
                "generator": _GENERATOR,
            },
        }

    def execute(
        self,
        prompt: str,
        seed: int,
        max_rounds: int,
        candidates: int,
        image: torch.Tensor | None = None,
        size: str = "",
        server: str = "",
        generator: str = "",
    ) -> tuple[torch.Tensor, float, str, str, str]:
        """Run the loop; `image` is `[B, H, W, C]`, of which the first is edited."""
        backend = open_backend(server, generator)
        options: dict[str, Any] = {"seed": seed, "max_rounds": max_rounds, "candidates": candidates}
        if size.strip():
            options["size"] = size.strip()
        source = encode_png(image[0]) if image is not None else None
        result = _follow(backend.run(prompt, options, source, _check_interrupted), max_rounds * candidates)
        picture = decode_image(backend.image(result["image_id"]))
        checklist = _list_requirements(result["requirements"])
        return picture, float(result["score"]), checklist, result["final_prompt"], result["run_id"]


class GemsRepair(_GemsNode):
    """Check an image and mend only what it lacks."""

    DESCRIPTION = "Checks an image requirement by requirement, and mends what fails; what is right stays as it is."
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING", "STRING")
    RETURN_NAMES = ("image", "score", "checklist", "run_id")
    OUTPUT_TOOLTIPS = (
        "The mended image; the given one if it lacks nothing.",
        "Share of requirements that it meets, in 0 to 1.",
        "The requirements with + (met), - (not met) or ? (unknown) and what was seen.",
        "The run, for `gems show` and `gems report`.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return the declared inputs."""
        seed = {"default": 0, "min": 0, "max": 2**32 - 1, "control_after_generate": True, "tooltip": "Random seed."}
        wish = "What to change first, in your own words; empty for what the check finds."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The image to mend; of a batch the first."}),
                "prompt": _PROMPT,
                "seed": ("INT", seed),
                "max_rounds": ("INT", {"default": 8, "min": 1, "max": 50, "tooltip": "Most rounds; the check is one."}),
                "repair": (["auto", "always", "never"], {"tooltip": "Whether images are mended or drawn anew."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "Where the image may change; empty for everywhere."}),
                "instruction": ("STRING", {"multiline": True, "default": "", "tooltip": wish}),
                "server": _SERVER,
                "generator": _GENERATOR,
            },
        }

    def execute(
        self,
        image: torch.Tensor,
        prompt: str,
        seed: int,
        max_rounds: int,
        repair: str,
        mask: torch.Tensor | None = None,
        instruction: str = "",
        server: str = "",
        generator: str = "",
    ) -> tuple[torch.Tensor, float, str, str]:
        """Mend the first image of `[B, H, W, C]` within the first mask of `[B, H, W]`."""
        backend = open_backend(server, generator)
        options: dict[str, Any] = {"seed": seed, "max_rounds": max_rounds, "repair": repair}
        if instruction.strip():
            options["instruction"] = instruction.strip()
        bounds = None if mask is None else encode_mask(mask, (image.shape[1], image.shape[2]))
        events = backend.repair(prompt, options, encode_png(image[0]), bounds, _check_interrupted)
        result = _follow(events, max_rounds)
        picture = decode_image(backend.image(result["image_id"]))
        return picture, float(result["score"]), _list_requirements(result["requirements"]), result["run_id"]


class GemsDecompose(_GemsNode):
    """List what an image must show to match a prompt."""

    DESCRIPTION = "Lists the requirements that an image must meet to show what a prompt says."
    RETURN_TYPES = ("STRING", "INT")
    RETURN_NAMES = ("requirements", "count")
    OUTPUT_TOOLTIPS = ("One question a line; yes is the good answer.", "How many there are.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return the declared inputs."""
        return {"required": {"prompt": _PROMPT}, "optional": {"server": _SERVER}}

    def execute(self, prompt: str, server: str = "") -> tuple[str, int]:
        """Decompose a prompt."""
        requirements = open_backend(server).decompose(prompt)["requirements"]
        questions = "\n".join(item["question"] for item in requirements)
        _Progress(1).tell(questions)
        return questions, len(requirements)


NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "GemsVerify": GemsVerify,
    "GemsRun": GemsRun,
    "GemsRepair": GemsRepair,
    "GemsDecompose": GemsDecompose,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "GemsVerify": "GEMS Verify",
    "GemsRun": "GEMS Run",
    "GemsRepair": "GEMS Repair",
    "GemsDecompose": "GEMS Decompose",
}


class _Progress:
    """The progress bar and the text that ComfyUI shows in the running node; nothing outside ComfyUI."""

    _bar: ClassVar[Any] = None

    def __init__(self, total: int) -> None:
        try:
            from comfy.utils import ProgressBar
        except ModuleNotFoundError:
            return
        self._bar = ProgressBar(total)

    def set(self, done: int) -> None:
        """Show how much is done."""
        if self._bar is not None:
            self._bar.update_absolute(done)

    def tell(self, text: str) -> None:
        """Show a text in the node, in place of the last one. Versions before 0.3.44 show none."""
        try:
            from comfy_execution.utils import get_executing_context
            from server import PromptServer
        except ImportError:
            return
        if (context := get_executing_context()) is not None:
            PromptServer.instance.send_progress_text(text, context.node_id)


def _follow(events: Iterable[Mapping[str, Any]], images: int) -> Mapping[str, Any]:
    """Return the result at the end of a run's events, of which at most so many images are expected."""
    progress = _Progress(images * _PARTS)
    drawn = 0
    result: Mapping[str, Any] = {}
    for event in events:
        if event["type"] == "step":
            progress.set(drawn * _PARTS + event["done"] * _PARTS // event["total"])
        elif event["type"] == "image":
            drawn += 1
            progress.set(drawn * _PARTS)
            progress.tell(f"Round {event['round']}: image {event['candidate']['index'] + 1} is drawn")
        elif event["type"] == "verdicts":
            progress.tell(f"Round {event['round']}: score {event['score']:.2f}")
        elif event["type"] == "finished":
            result = event["result"]
    if not result.get("image_id"):
        failure = result.get("failure") or {}
        raise GemsNodeError(failure.get("message") or "The run ended without an image.")
    progress.set(images * _PARTS)
    progress.tell(_list_requirements(result["requirements"]))
    return result


def _check_interrupted() -> None:
    """Raise ComfyUI's exception if the user cancelled the workflow."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except ModuleNotFoundError:
        return
    throw_exception_if_processing_interrupted()


def _list_requirements(requirements: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for item in requirements:
        seen = f" ({item['evidence']})" if item.get("evidence") else ""
        lines.append(f"{_MARKS[item['answer']]} {item['question']}{seen}")
    return "\n".join(lines)
