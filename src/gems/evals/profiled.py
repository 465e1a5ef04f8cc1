"""Apply a generator profile to settings and run options."""

from __future__ import annotations

from pathlib import Path

from gems.errors import OptionError
from gems.evals.generator_profiles import GeneratorProfile, generator_profile
from gems.models.specs import parse_generator_spec
from gems.options import RunOptions
from gems.settings import GeneratorSettings, Settings, with_models


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
