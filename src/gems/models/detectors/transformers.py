"""Zero-shot detectors of the library transformers in this process, such as OWLv2 and Grounding DINO."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gems.errors import ModelFilesError, OutOfMemoryError, ProviderError
from gems.models.detectors.base import DEFAULT_THRESHOLD, DetectionRequest, Detections, select_objects
from gems.models.generators.diffusers.loading import find_device
from gems.models.images import open_flat
from gems.observability.redaction import redact, shorten

_TASK = "zero-shot-object-detection"
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_GROUNDING = "grounding-dino"
"""Part of the types of models that read phrases as a sentence in lower case, which ends in a full stop."""


class TransformersDetector:
    """Finds objects with a model that is loaded with the first request, from this machine only.

    One thread loads the model and looks at one image at a time. A phrase that is too long for the model's tokenizer is
    undecided.

    Args:
        model: Folder, or the name of a model in the Hub's cache, such as `google/owlv2-base-patch16-ensemble`.
        device: `auto`, `cuda`, `cuda:1`, `mps` or `cpu`.
        threshold: Score from which an object counts as found, in (0, 1]; None for 0.3.
    """

    def __init__(self, model: str, *, device: str = "auto", threshold: float | None = None) -> None:
        self._model = model
        self._device = device
        self._threshold = threshold or DEFAULT_THRESHOLD
        self._name = f"transformers:{Path(model).name}"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gems-detector")
        self._pipeline: Any = None

    @property
    def name(self) -> str:
        """`transformers:` and the model's name without its folder."""
        return self._name

    @property
    def threshold(self) -> float:
        """Score from which an object counts as found."""
        return self._threshold

    async def detect(self, request: DetectionRequest) -> Detections:
        """Look at an image; see `ObjectDetector`."""
        if not request.phrases:
            return Detections(objects=())
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._detect, request)

    async def aclose(self) -> None:
        """End the thread and free the model. Idempotent."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._pipeline = None

    def _detect(self, request: DetectionRequest) -> Detections:
        import torch  # noqa: PLC0415 - seconds long, and only with the extra

        if self._pipeline is None:
            self._pipeline = self._load()
        picture = open_flat(request.image)
        labels = {self._label(phrase): phrase for phrase in request.phrases}
        readable = [label for label in labels if self._is_readable(label)]
        try:
            # The library refuses an empty list.
            found = (
                self._pipeline(picture, candidate_labels=readable, threshold=self._threshold / 2) if readable else []
            )
        except torch.OutOfMemoryError as error:
            hint = "Set GEMS_DETECTOR_DEVICE=cpu, or use a smaller model."
            raise OutOfMemoryError(f"{self._name} needs more memory than there is.", hint=hint) from error
        except Exception as error:
            message = shorten(redact(f"{type(error).__name__}: {error}"))
            raise ProviderError(f"{self._name} failed: {message}") from error
        objects = ((labels[each["label"]], each["score"], [each["box"][edge] for edge in _EDGES]) for each in found)
        chosen = select_objects(objects, request, picture.size, threshold=self._threshold, detector=self._name)
        too_long = frozenset(labels[label] for label in labels.keys() - set(readable))
        return Detections(objects=chosen.objects, undecided=chosen.undecided | too_long)

    def _label(self, phrase: str) -> str:
        return f"{phrase.lower().rstrip('.')}." if _GROUNDING in self._pipeline.model.config.model_type else phrase

    def _is_readable(self, label: str) -> bool:
        tokenizer = self._pipeline.tokenizer
        return bool(len(tokenizer(label, verbose=False)["input_ids"]) <= tokenizer.model_max_length)

    def _load(self) -> Any:
        """Load model and processor; ConfigurationError for a folder or a name that has none."""
        import torch  # noqa: PLC0415
        from huggingface_hub import snapshot_download  # noqa: PLC0415
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, pipeline  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        device = find_device(self._device)
        local = {"local_files_only": True, "trust_remote_code": False}
        had_bars = logging.is_progress_bar_enabled()
        # Its bars would be drawn into the progress of the run.
        logging.disable_progress_bar()
        try:
            # Given a name, transformers asks the Hub for adapters even where only local files are allowed.
            is_folder = Path(self._model).is_dir()
            folder = self._model if is_folder else snapshot_download(self._model, local_files_only=True)
            model = AutoModelForZeroShotObjectDetection.from_pretrained(folder, use_safetensors=True, **local)
            processor = AutoProcessor.from_pretrained(folder, **local)
            parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
            loaded = pipeline(_TASK, model=model.eval(), device=device, **parts)
        except Exception as error:
            message = shorten(redact(" ".join(f"{type(error).__name__}: {error}".split())))
            raise ModelFilesError(
                f"The detector {self._model} cannot be loaded: {message}",
                hint=f"GEMS downloads no detector. Use a complete folder, or run: hf download {self._model}",
            ) from error
        finally:
            if had_bars:
                logging.enable_progress_bar()
        if any(weight.is_meta or not bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise ModelFilesError(f"The detector {self._model} has weights that are missing or no numbers.")
        return loaded
