"""LoRAs and quantisation of a pipeline's models."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gems.errors import ConfigurationError, MissingExtraError, ModelFilesError
from gems.observability.redaction import redact, shorten

_HUB_FILE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?)(?:/(?P<file>[\w./-]+\.safetensors))?")
_DIGEST = 12
"""Characters of a file's SHA-256 that are recorded."""

QUANTIZERS: dict[str, str] = {
    "bitsandbytes-4bit": "bitsandbytes",
    "bitsandbytes-8bit": "bitsandbytes",
    "torchao-int8": "torchao",
}
"""Quantisations of weights while they are loaded, and the package that each needs."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA to add to a model.

    Attributes:
        path: A safetensors file, or OWNER/NAME or OWNER/NAME/FILE.safetensors on the Hub, in the local cache.
        weight: How strongly it acts; 1 as it was trained.
    """

    path: str
    weight: float = 1.0


def find_lora(lora: Lora) -> Path:
    """Return the file of a LoRA. Raises `ModelFilesError` if there is none, or it is no safetensors file."""
    path = Path(lora.path).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            hint = "Other files can contain code. Convert it to safetensors."
            raise ModelFilesError(f"The LoRA {lora.path} is not a safetensors file.", hint=hint)
        return path
    name = _HUB_FILE.fullmatch(lora.path)
    if name is None or lora.path[:1] in "./~":
        hint = "Use a safetensors file, or OWNER/NAME/FILE.safetensors of the Hub."
        raise ModelFilesError(f"The LoRA {lora.path} does not exist.", hint=hint)
    return _find_cached(lora.path, name["repository"], name["file"])


def _find_cached(named: str, repository: str, file: str | None) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - comes with the extra only
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError as error:
        hint = f"Download it: hf download {repository}{f' {file}' if file else ''}"
        raise ModelFilesError(f"The LoRA {named} is not in the cache.", hint=hint) from error
    found = [folder / file] if file else sorted(folder.glob("*.safetensors"))
    if len(found) == 1 and found[0].is_file():
        return found[0]
    names = ", ".join(each.name for each in sorted(folder.glob("*.safetensors"))) or "no safetensors file"
    raise ModelFilesError(f"The LoRA {named} is not one file: {names}.", hint=f"Name the file: {repository}/FILE.")


def name_loras(loras: Sequence[Lora]) -> str:
    """Return what the generator's name says of its LoRAs: file, start of its SHA-256 and weight. Blocking.

    With them the model behaves as another one, so its lessons and records must not be mixed up. Many files have the
    name that training programs give them. Raises as `find_lora` does.
    """
    found = [(find_lora(lora), lora.weight) for lora in loras]
    return "".join(f"+{path.stem}-{_digest(path)}:{weight:g}" for path, weight in found)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST]
    except OSError as error:
        message = f"The LoRA {path.name} cannot be read: {error.strerror}."
        raise ModelFilesError(message, hint="Check its permissions.") from error


def add_loras(pipe: Any, loras: Sequence[Lora]) -> tuple[dict[str, Any], ...]:
    """Add LoRAs to a loaded pipeline; return what is recorded of each: name, weight, start of the file's SHA-256.

    Raises `ModelFilesError` if one is not there or was made for another model, and `ConfigurationError` if the
    pipeline takes none.
    """
    if loras and not hasattr(pipe, "load_lora_weights"):
        hint = "Remove GEMS_GENERATOR__LORAS, or use another model."
        raise ConfigurationError(f"{type(pipe).__name__} takes no LoRAs.", hint=hint)
    told = []
    for number, lora in enumerate(loras):
        path, adapter = find_lora(lora), f"lora_{number}"
        _add_lora(pipe, lora.path, path, adapter)
        told.append({"name": path.name, "weight": lora.weight, "sha256": _digest(path)})
    if loras:
        pipe.set_adapters([f"lora_{number}" for number in range(len(loras))], [lora.weight for lora in loras])
    return tuple(told)


def _add_lora(pipe: Any, named: str, path: Path, adapter: str) -> None:
    hint = f"Use a LoRA that was made for the model of this {type(pipe).__name__}."
    what = f"The LoRA {named} does not fit the model"
    try:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter, local_files_only=True)
    except Exception as error:
        # Libraries raise whatever fails first: a shape, a missing key, a target module, a truncated file.
        message = shorten(redact(f"{type(error).__name__}: {' '.join(str(error).split())}"))
        raise ModelFilesError(f"{what}: {message}", hint=hint) from error
    # Keys that fit no layer are only logged.
    if not any(adapter in names for names in pipe.get_list_adapters().values()):
        raise ModelFilesError(f"{what}: it changes none of its layers.", hint=hint)


def check_packages(loras: Sequence[Lora], quantize: str) -> None:
    """Raise `ConfigurationError` if the packages for LoRAs or this quantisation are missing."""
    if loras and importlib.util.find_spec("peft") is None:
        raise MissingExtraError("LoRAs", "diffusers")
    if not quantize:
        return
    if quantize not in QUANTIZERS:
        raise ConfigurationError(f"Invalid quantisation: {quantize!r}.", hint=f"Use one of {', '.join(QUANTIZERS)}.")
    package = QUANTIZERS[quantize]
    if importlib.util.find_spec(package) is None:
        hint = f"Install it with: pip install {package}"
        raise ConfigurationError(f"The quantisation {quantize} needs the package {package}.", hint=hint)


def quantization_configs(quantize: str, dtype: Any, parts: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration for each model that is quantised: the denoiser and the text encoders.

    `parts` names the library of each component; configurations of the two libraries have the same fields.
    """
    import diffusers  # noqa: PLC0415 - seconds long, and only with the extra
    import transformers  # noqa: PLC0415

    def configure(library: Any) -> Any:
        if quantize == "torchao-int8":
            quantization = importlib.import_module("torchao.quantization")
            return library.TorchAoConfig(quantization.Int8WeightOnlyConfig())
        if quantize == "bitsandbytes-8bit":
            return library.BitsAndBytesConfig(load_in_8bit=True)
        return library.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
        )

    chosen = [name for name in parts if name.startswith(("transformer", "unet", "text_encoder"))] if quantize else []
    return {name: configure(transformers if parts[name] == "transformers" else diffusers) for name in chosen}
