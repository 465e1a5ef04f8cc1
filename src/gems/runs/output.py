"""Write the result image and its metadata."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo, putchunk

from gems._version import __version__
from gems.errors import ImageMissingError, OptionError
from gems.files.shared import write_atomically
from gems.memory.images import ImageStore
from gems.memory.sqlite import reading, storage_error
from gems.models.images import open_image
from gems.results import RunResult, add_warning
from gems.types import Candidate, Round, origin_of

_PNG_SIGNATURE_BYTES = 8
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk of every whole PNG."""
_MARK = re.compile(r"(Negative prompt|Steps|Sampler|CFG scale|Seed|Size|Model):")
_MOST_XMP = 60_000
"""Bytes of XMP; a segment of a JPEG holds at most 65,502."""
# Length, type and checksum of a chunk.
_CHUNK_OVERHEAD = 12
# Chunks for pixels and colours; texts of the image model are not passed on.
_KEPT_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"IDAT", b"IEND"})


def with_provenance(png: bytes, result: RunResult) -> bytes:
    """Return the PNG with metadata of the run. Blocking: call it in a thread."""
    best = next(round_ for round_ in result.rounds if round_["number"] == result.best_round)
    candidate = best["candidates"][best["best"]]
    texts = PngInfo()
    if best.get("action") != "given":
        texts.add_itxt("parameters", infotext(best, candidate))
    texts.add_itxt("gems", json.dumps(_provenance_record(result, candidate), ensure_ascii=False))
    return replace_metadata(png, texts)


def replace_metadata(png: bytes, texts: PngInfo | None = None) -> bytes:
    """Return the PNG with `texts` in place of all that does not decide its pixels and colours.

    The pixels are not compressed again, which would take long. A PNG that is cut off stays so: it has no `PNG_END`.
    """
    out = io.BytesIO()
    out.write(png[:_PNG_SIGNATURE_BYTES])
    position, kind = _PNG_SIGNATURE_BYTES, b""
    while position < len(png) and kind != b"IEND":
        end = position + _CHUNK_OVERHEAD + int.from_bytes(png[position : position + 4])
        kind = png[position + 4 : position + 8]
        if kind in _KEPT_CHUNKS:
            out.write(png[position:end])
        if kind == b"IHDR" and texts is not None:
            for name, data, *_ in texts.chunks:
                putchunk(out, name, data)
        position = end
    return out.getvalue()


def portable_metadata(png: bytes) -> dict[str, bytes]:
    """Return what the texts of a PNG say as EXIF and XMP, as arguments of Pillow's `save` for JPEG and WebP.

    The user comment of EXIF is the text `parameters`, as A1111 writes it; XMP holds it as the description, and the
    record `gems` where it fits. Empty for an image without such texts. Blocking.
    """
    with open_image(png) as opened:
        # Texts that stand behind the pixels are found only once these are read.
        opened.load()
        texts = {name: str(text) for name, text in opened.info.items() if name in ("parameters", "gems")}
    if not texts:
        return {}
    exif = Image.Exif()
    if "parameters" in texts:
        comment = b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    record = texts.get("gems", "")
    xmp = _xmp_packet(texts.get("parameters", ""), record)
    if len(xmp) > _MOST_XMP:
        xmp = _xmp_packet(texts.get("parameters", ""), "")
    return {"exif": exif.tobytes(), "xmp": xmp}


def _xmp_packet(description: str, record: str) -> bytes:
    """Return an XMP packet; control characters, which XML has none for, become blanks."""
    described, kept = (escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", " ", text)) for text in (description, record))
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:gems="urn:gems:provenance">'
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{described}</rdf:li></rdf:Alt></dc:description>'
        f"<gems:record>{kept}</gems:record></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode(errors="replace")


def infotext(best: Round, candidate: Candidate) -> str:
    """Return the text that A1111-style tools read: prompt, negative prompt, then parameters by name.

    Readers look for the first line that begins with `Steps`, and want a sampler: 0 and `default` stand for what the
    generator does not tell. What looks like such a mark within a prompt gets a blank before its colon; names of models
    have neither colons nor commas. The record `gems` holds all as it is.
    """
    parameters = candidate["parameters"]
    used = parameters.get("seed_used")
    named = {
        "Steps": parameters.get("steps") or 0,
        "Sampler": parameters.get("scheduler") or "default",
        "CFG scale": parameters.get("guidance"),
        "Seed": candidate["seed"] if used is None else used,
        "Size": f"{candidate['width']}x{candidate['height']}",
        "Model": re.sub(r"\s*[:,\n]\s*", "/", candidate["model"]),
        "Version": f"GEMS {__version__}",
    }
    prompt, negative = (_MARK.sub(r"\1 :", text) for text in (best["prompt"], best["negative_prompt"]))
    lines = [prompt, f"Negative prompt: {negative}"] if negative else [prompt]
    lines.append(", ".join(f"{name}: {_format_value(value)}" for name, value in named.items() if value is not None))
    return "\n".join(lines)


def _provenance_record(result: RunResult, candidate: Candidate) -> dict[str, Any]:
    return {
        "version": __version__,
        "run_id": result.run_id,
        "round": result.best_round,
        "prompt": result.prompt,
        "final_prompt": result.final_prompt,
        **{name: result.options[name] for name in ("source", "mask", "instruction") if name in result.options},
        "trajectory": [_step_record(turn) for turn in result.rounds],
        "seed": candidate["seed"],
        "model": candidate["model"],
        "parameters": candidate["parameters"],
        "models": result.models,
        "score": result.score,
        "stop_reason": result.stop_reason,
        "verdicts": [
            {"question": item.question, "answer": item.answer, "evidence": item.evidence}
            for item in result.requirements
        ],
    }


def _step_record(turn: Round) -> dict[str, Any]:
    """Return where the best image of a round came from."""
    step: dict[str, Any] = {"number": turn["number"], **origin_of(turn)}
    taken = {"taken": turn["taken"]} if "taken" in turn else {}
    return step | taken | {"image": turn["candidates"][turn["best"]]["image"], "score": turn["score"]}


def _format_value(value: Any) -> str:
    """Format a value for infotext: quoted if a comma or a line break would end it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def check_target(out: str | Path | None) -> None:
    """Reject a target that cannot be written before anything is paid for: OptionError. Blocking."""
    if out is None:
        return
    if out == "":
        raise OptionError("The output path is empty.", hint="Use a .png file or a folder.")
    target = Path(out)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            target.stat()
    except (OSError, ValueError) as error:
        # A name that the system does not accept, or a path without access.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        path_text = str(target) if len(str(target)) <= 200 else f"{str(target)[:199]}…"
        raise OptionError(f"{path_text!r} cannot be written: {reason}.", hint="Choose another --out.") from error
    if not target.is_dir() and target.suffix.lower() not in ("", ".png"):
        raise OptionError(f"{target} does not end in .png.", hint="Images are written as PNG.")
    folder = target if target.is_dir() or not target.suffix else target.parent
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OptionError(f"{folder} is not writable.", hint="Choose another path with --out.")


async def save_result(result: RunResult, images: ImageStore, out: str | Path, *, metadata: bool) -> RunResult:
    """Write the result's image to `out`, and return the result with the image.

    If the file cannot be written, the image is still in the store, in the system's temporary folder, or at
    least in the result, with a warning.
    """
    if result.image_id is None:
        return result
    data = await images.load(result.image_id)
    target = _target_path(Path(out), result.run_id)
    try:
        if metadata:
            data = await asyncio.to_thread(with_provenance, data, result)
        await asyncio.to_thread(write_atomically, target, data)
    except OSError as error:
        stored = images.path(result.image_id) if result.image_id not in images.unsaved else None
        place = stored or await asyncio.to_thread(_write_to_temporary, f"gems-{result.run_id}.png", data)
        where = f"It is {place}." if place else "It is in memory only and lost when this process ends."
        result = add_warning(result, f"The result could not be written: {storage_error(error, target)} {where}")
        return result.with_image(data, place, images.at_hand)
    return result.with_image(data, target, images.at_hand)


def _write_to_temporary(name: str, data: bytes) -> Path | None:
    """Write `data` to the system's temporary folder; None if that fails too."""
    try:
        place = Path(tempfile.gettempdir()) / name
        write_atomically(place, data)
    except OSError:
        return None
    return place


async def load_saved_image(result: RunResult, images: ImageStore, saved: str | None) -> RunResult:
    """Return the result with its image from the file it was `saved` to or the store; else StorageError."""
    stored = images.path(result.image_id or "")
    is_there = await asyncio.to_thread(os.path.exists, saved or "")
    path = Path(saved) if saved and is_there else stored
    try:
        return result.with_image(await images.load(result.image_id or ""), path, images.at_hand)
    except ImageMissingError as missing:
        if path == stored:
            raise
        with reading(path):
            data = await asyncio.to_thread(path.read_bytes)
        result = add_warning(result, f"{missing.message} This is the copy that was saved to {path}.")
    return result.with_image(data, path, images.at_hand)


def write_page(page: str, target: Path) -> Path:
    """Write a page to a file atomically; OptionError if `target` is a folder. Blocking."""
    if target.is_dir():
        raise OptionError(f"{target} is a folder.", hint="Use a file, for example report.html.")
    try:
        write_atomically(target, page.encode())
    except OSError as error:
        raise storage_error(error, target) from error
    return target.absolute()


def _target_path(out: Path, run_id: str) -> Path:
    is_file = out.suffix.lower() == ".png" and not out.is_dir()
    return (out if is_file else out / f"{run_id}.png").absolute()
