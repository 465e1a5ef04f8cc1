"""Named generator settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gems.errors import OptionError
from gems.models.specs import parse_generator_spec
from gems.options import RunOptions
from gems.settings import GeneratorSettings, Settings, with_models


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorProfile:
    """Generator settings of one model for benchmarks; scales are pipeline arguments, None to omit them."""

    preset: str
    """The preset of the Diffusers generator."""
    width: int
    height: int
    steps: int
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    """Enables classifier-free guidance."""
    negative_prompt: str = ""
    note: str = ""

    @property
    def size(self) -> str:
        """WIDTHxHEIGHT, as in run options."""
        return f"{self.width}x{self.height}"

    @property
    def guidance(self) -> float | None:
        """The guidance value of the preset, which passes it on as the right argument."""
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
            note="As in the paper's code. In Diffusers this leaves classifier-free guidance off: the model "
            "ignores this argument, and there is no negative prompt.",
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
            note="As recommended by the authors of the model, with classifier-free guidance.",
        ),
    },
}
"""By profile name and model: `paper` as in the paper, `recommended` by the authors of the models."""


def generator_profile(name: str, generator: str) -> GeneratorProfile | None:
    """Return the profile for a generator spec, or None if it has none for that model.

    Raises `OptionError` if no profile has this name.
    """
    if name not in PROFILES:
        raise OptionError(f"Unknown generator profile: {name!r}.", hint=f"Choose one of: {', '.join(PROFILES)}.")
    # The URL of an endpoint does not identify its model.
    model = generator.partition("@http")[0].lower().replace("_", "-")
    return next((profile for known, profile in PROFILES[name].items() if known in model), None)


def apply_profile(settings: Settings, name: str) -> tuple[Settings, RunOptions]:
    """Return settings and run options with the profile `name` applied; unchanged if it is empty.

    The profile replaces the user's generator settings. With Diffusers its preset replaces the model name,
    except for a local folder. Raises `OptionError` if the profile is unknown or does not cover the generator.
    """
    if not name:
        return settings, {}
    spec = settings.generator.model
    profile = generator_profile(name, spec)
    if profile is None:
        raise OptionError(
            f"The generator profile {name!r} has no settings for {spec.partition('?')[0]}.",
            hint="Omit it, and use --size and the generator settings.",
        )
    settings = with_models(settings, generator=_spec_with_preset(spec, profile))
    changed = settings.generator.model_copy(update={"steps": profile.steps, "guidance": profile.guidance})
    # model_copy does not validate.
    generator = GeneratorSettings.model_validate(changed.model_dump(exclude_unset=True))
    options: RunOptions = {"size": profile.size}
    if profile.negative_prompt:
        options["negative_prompt"] = profile.negative_prompt
    return settings.model_copy(update={"generator": generator}), options


def _spec_with_preset(spec: str, profile: GeneratorProfile) -> str:
    parsed = parse_generator_spec(spec)
    is_own = parsed.kind != "diffusers" or Path(parsed.model).expanduser().is_dir()
    return spec if is_own else f"diffusers:{profile.preset}"
