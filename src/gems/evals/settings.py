"""The settings of an output folder."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gems._version import __version__

_EXTENDABLE = ("limit", "samples")
_NOT_COMPARED = ("id", "version", "data")


class EvalSettings(BaseModel):
    """How the samples of a folder are generated; stored in `eval.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field("", description="Random id of the folder, part of its run ids.")
    task: str
    languages: tuple[str, ...]
    harness: str
    generator: str = Field(description="Spec of the image generator.")
    generator_profile: str = Field("", description="Named settings of the generator; empty for none.")
    chat: str = Field("", description="Spec of the loop's chat model; empty if the harness uses none.")
    judge: str = Field("", description="Spec of the loop's judge if it is another model.")
    size: str = Field("", description="WIDTHxHEIGHT in pixels; empty for the generator's default.")
    images: int = Field(ge=1, description="Maximum number of images per sample.")
    limit: int | None = Field(None, ge=1, description="Maximum number of prompts per language; None for all.")
    samples: int = Field(ge=1, description="Samples per prompt.")
    seed: int = Field(ge=0, description="Base of the samples' seeds.")
    learn: bool = Field(False, description="Whether runs learn from each other.")
    data: str = Field("", description="The folder of the benchmark's data.")
    version: str = Field(__version__, description="Version of GEMS that created the folder.")

    def differences(self, wanted: EvalSettings) -> list[str]:
        """Return the differences that keep `wanted` from using this folder, one line each.

        The limit and the number of samples may grow, but not shrink: it would be unclear which samples count.
        """
        differences = []
        for name in EvalSettings.model_fields:
            current, new = getattr(self, name), getattr(wanted, name)
            if name in _NOT_COMPARED or current == new:
                continue
            if name in _EXTENDABLE and (new is None or (current is not None and new > current)):
                continue
            differences.append(f"{name} is {current!r} in the folder, {new!r} now")
        return differences
