"""Write metadata of a run into a PNG, in text chunks that other programs read.

`parameters` is the infotext of A1111-style tools; `gems` is JSON with the run, its rounds and verdicts.
"""

from __future__ import annotations

import io
import json
from typing import Any

from PIL.PngImagePlugin import PngInfo, putchunk

from gems._version import __version__
from gems.results import RunResult
from gems.types import Candidate

_PNG_SIGNATURE_BYTES = 8
# Length, type and checksum of a chunk.
_CHUNK_OVERHEAD = 12
# Chunks for pixels and colours; texts of the image model are not passed on.
_KEPT_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"IDAT", b"IEND"})


def with_provenance(png: bytes, result: RunResult) -> bytes:
    """Return the PNG with metadata of the run. Blocking: call it in a thread."""
    best = next(best for best in result.rounds if best["number"] == result.best_round)
    candidate = best["candidates"][best["best"]]
    texts = PngInfo()
    texts.add_itxt("parameters", infotext(result, candidate))
    texts.add_itxt("gems", json.dumps(provenance_record(result, candidate), ensure_ascii=False))
    return _with_texts(png, texts)


def _with_texts(png: bytes, texts: PngInfo) -> bytes:
    """Replace all texts of the PNG without compressing its pixels again, which would take long."""
    out = io.BytesIO()
    out.write(png[:_PNG_SIGNATURE_BYTES])
    position = _PNG_SIGNATURE_BYTES
    while position < len(png):
        end = position + _CHUNK_OVERHEAD + int.from_bytes(png[position : position + 4])
        kind = png[position + 4 : position + 8]
        if kind in _KEPT_CHUNKS:
            out.write(png[position:end])
        if kind == b"IHDR":
            for name, data, *_ in texts.chunks:
                putchunk(out, name, data)
        position = end
    return out.getvalue()


def infotext(result: RunResult, candidate: Candidate) -> str:
    """Return the text that A1111-style tools read: prompt, negative prompt, then parameters by name."""
    best = next(best for best in result.rounds if best["number"] == result.best_round)
    parameters = candidate["parameters"]
    used = parameters.get("seed_used")
    named = {
        "Steps": parameters.get("steps"),
        "Sampler": parameters.get("scheduler"),
        "CFG scale": parameters.get("guidance"),
        "Seed": candidate["seed"] if used is None else used,
        "Size": f"{candidate['width']}x{candidate['height']}",
        "Model": candidate["model"],
        "Version": f"GEMS {__version__}",
    }
    lines = [best["prompt"]]
    if best["negative_prompt"]:
        lines.append(f"Negative prompt: {best['negative_prompt']}")
    lines.append(
        ", ".join(f"{name}: {_format_value(value)}" for name, value in named.items() if value is not None)
    )
    return "\n".join(lines)


def provenance_record(result: RunResult, candidate: Candidate) -> dict[str, Any]:
    """Return the content of the `gems` chunk."""
    return {
        "version": __version__,
        "run_id": result.run_id,
        "round": result.best_round,
        "prompt": result.prompt,
        "final_prompt": result.final_prompt,
        **({"source": result.options["source"]} if "source" in result.options else {}),
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


def _format_value(value: Any) -> str:
    """Format a value for infotext: quoted if a comma or a line break would end it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
