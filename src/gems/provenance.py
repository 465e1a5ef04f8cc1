"""A picture that says what made it, in text chunks that other programs read.

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

_SIGNATURE = 8
# Length, kind and checksum of a chunk.
_FRAME = 12
# What the pixels and their colours need; texts of whoever drew it are not passed on.
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"IDAT", b"IEND"})


def with_provenance(png: bytes, result: RunResult) -> bytes:
    """The same pixels with what made them written into the file. Blocking: call it in a thread."""
    turn = next(turn for turn in result.rounds if turn["number"] == result.best_round)
    candidate = turn["candidates"][turn["best"]]
    texts = PngInfo()
    texts.add_itxt("parameters", infotext(result, candidate))
    texts.add_itxt("gems", json.dumps(record(result, candidate), ensure_ascii=False))
    return _with_texts(png, texts)


def _with_texts(png: bytes, texts: PngInfo) -> bytes:
    """The picture as it is compressed, with these texts in place of all others.

    Compressing it anew would take longer than everything else that ends a run.
    """
    out = io.BytesIO()
    out.write(png[:_SIGNATURE])
    at = _SIGNATURE
    while at < len(png):
        end = at + _FRAME + int.from_bytes(png[at : at + 4])
        kind = png[at + 4 : at + 8]
        if kind in _KEPT:
            out.write(png[at:end])
        if kind == b"IHDR":
            for name, data, *_ in texts.chunks:
                putchunk(out, name, data)
        at = end
    return out.getvalue()


def infotext(result: RunResult, candidate: Candidate) -> str:
    """The text that A1111-style tools read: prompt, negative prompt, then parameters by name."""
    turn = next(turn for turn in result.rounds if turn["number"] == result.best_round)
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
    lines = [turn["prompt"]]
    if turn["negative_prompt"]:
        lines.append(f"Negative prompt: {turn['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_value(value)}" for name, value in named.items() if value is not None))
    return "\n".join(lines)


def record(result: RunResult, candidate: Candidate) -> dict[str, Any]:
    """What the `gems` chunk holds."""
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


def _value(value: Any) -> str:
    """A value as infotext writes it: quoted where a comma or a line break would end it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
