"""A generator's named settings, put into the settings and the options of runs."""

from __future__ import annotations

from pathlib import Path

from gems.arguments import RunOptions
from gems.errors import OptionError
from gems.evals.generator_profiles import GeneratorProfile, generator_profile
from gems.models.specs import parse_generator_spec
from gems.settings import GeneratorSettings, Settings, with_models


def apply_profile(settings: Settings, name: str) -> tuple[Settings, RunOptions]:
    """The settings and the runs' options with the generator profile `name`; unchanged where it is empty.

    What the user has set about the generator otherwise gives way, since a profile is a whole. With Diffusers
    the preset that draws so takes the place of the model's name; a folder of the user's own stays.

    Raises:
        OptionError: there is no such profile, or it says nothing about this generator.
    """
    if not name:
        return settings, {}
    spec = settings.generator.model
    profile = generator_profile(name, spec)
    if profile is None:
        raise OptionError(
            f"The generator profile {name!r} says nothing about {spec.partition('?')[0]}.",
            hint="Leave it out, and use --size and the settings of the generator.",
        )
    settings = with_models(settings, generator=_spec_with_preset(spec, profile))
    changed = settings.generator.model_copy(update={"steps": profile.steps, "guidance": profile.guidance})
    # Validated again, since copying does not.
    generator = GeneratorSettings.model_validate(changed.model_dump(exclude_unset=True))
    options: RunOptions = {"size": profile.size}
    if profile.negative_prompt:
        options["negative_prompt"] = profile.negative_prompt
    return settings.model_copy(update={"generator": generator}), options


def _spec_with_preset(spec: str, profile: GeneratorProfile) -> str:
    parsed = parse_generator_spec(spec)
    is_own = parsed.kind != "diffusers" or Path(parsed.model).expanduser().is_dir()
    return spec if is_own else f"diffusers:{profile.preset}"
