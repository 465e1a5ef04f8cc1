"""Named settings of the generators that benchmarks are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gems.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorProfile:
    """How one model draws for a benchmark.

    Attributes:
        preset: The preset of our Diffusers generator that draws so.
        width: Pixels.
        height: Pixels.
        steps: Inference steps.
        guidance_scale: As the pipeline's argument of this name; None where it is given none.
        true_cfg_scale: The same; this one turns classifier-free guidance on.
        negative_prompt: Empty for none.
        note: What one should know.
    """

    preset: str
    width: int
    height: int
    steps: int
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    negative_prompt: str = ""
    note: str = ""

    @property
    def size(self) -> str:
        """As options of runs have it."""
        return f"{self.width}x{self.height}"

    @property
    def guidance(self) -> float | None:
        """What the preset is given as guidance; it hands it to the argument that this profile means."""
        return self.guidance_scale if self.true_cfg_scale is None else self.true_cfg_scale


_Z_IMAGE = GeneratorProfile(preset="z-image-turbo", width=1024, height=1024, steps=9, guidance_scale=0.0)
PROFILES: Mapping[str, Mapping[str, GeneratorProfile]] = {
    "paper": {
        "z-image": _Z_IMAGE,
        "qwen-image": GeneratorProfile(
            preset="qwen-image-paper",
            width=1328,
            height=1328,
            steps=50,
            guidance_scale=4.0,
            note="As the paper's code calls it. In Diffusers this leaves classifier-free guidance off: the "
            "model does not use this argument, and there is no negative prompt.",
        ),
    },
    "recommended": {
        "z-image": _Z_IMAGE,
        "qwen-image": GeneratorProfile(
            preset="qwen-image",
            width=1328,
            height=1328,
            steps=50,
            true_cfg_scale=4.0,
            negative_prompt=" ",
            note="As the model's authors recommend, with classifier-free guidance.",
        ),
    },
}
"""By name and model: those of the paper, and those that the models' authors recommend."""


def generator_profile(name: str, generator: str) -> GeneratorProfile | None:
    """The settings of a profile for a generator; None where it has none for it.

    Args:
        name: The profile's name.
        generator: The generator's spec, for instance `diffusers:z-image-turbo`.

    Raises:
        OptionError: there is no such profile.
    """
    if name not in PROFILES:
        raise OptionError(
            f"There is no generator profile {name!r}.", hint=f"There are {', '.join(PROFILES)}."
        )
    # The address of an endpoint says nothing about its model.
    model = generator.partition("@http")[0].lower().replace("_", "-")
    return next((profile for known, profile in PROFILES[name].items() if known in model), None)
