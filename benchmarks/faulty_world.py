"""A hidden truth behind the stub server: pictures that meet their requirements or not, and who judges them.

Each prompt names four things. A picture has four quarters, one for each thing: green where the picture shows
it, red where it does not, decided by prompt and seed; later versions of a prompt succeed more often. So
everybody who looks at the pixels can tell what is met, and whoever judges again without any fault can say who
was wrong.

The chat model reads the pixels too. Over a checklist its attention wanes: of missing things in its
second half two in five are said to be there. The same list backwards, or a question of its own, puts that
right, so a second look that got lost would show as a run that is called passed wrongly.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from typing import Any

from PIL import Image

from gems.generation import ImageRequest
from gems.models.chat.schemas import extract_tag, find_task

THINGS = ("heron", "lantern", "kettle", "willow")
"""What every prompt asks for; nothing else that models write contains these words."""
SLOPPINESS = 0.4
"""Share of missing things in the second half of a checklist that it says are there."""
HOPELESS = "which nobody has drawn yet"
"""With these words in the prompt no picture shows the last thing."""
_CHANCES = (0.75, 0.93, 0.98)
_MET, _UNMET = (0, 170, 0), (170, 0, 0)
_SKILL = "creative-drawing"


def prompt(number: int, *, hopeless: bool = False) -> str:
    """The prompt of a run; no two are the same."""
    return f"a {', a '.join(THINGS)}, scene {number}" + (f", {HOPELESS}" if hopeless else "")


def draw(request: ImageRequest) -> bytes:
    """A picture whose quarters show what it meets."""
    version = min(_version(request.prompt), len(_CHANCES))
    picture = Image.new("RGB", (request.width, request.height))
    width, height = request.width // 2, request.height // 2
    for index, thing in enumerate(THINGS):
        shown = _share(request.prompt, request.seed, thing) < _CHANCES[version - 1]
        shown = shown and not (thing == THINGS[-1] and HOPELESS in request.prompt)
        left, top = index % 2 * width, index // 2 * height
        picture.paste(_MET if shown else _UNMET, (left, top, left + width, top + height))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def met(data: bytes) -> list[bool]:
    """What the pixels say of each thing, whoever claims otherwise."""
    with Image.open(io.BytesIO(data)) as picture:
        shown = picture.convert("RGBA")
        # As anybody sees it who looks at it on paper.
        pixels = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
        width, height = pixels.size
        places = [(width * (1 + 2 * (i % 2)) // 4, height * (1 + 2 * (i // 2)) // 4) for i in range(4)]
        colours = [pixels.getpixel(place) for place in places]
    return [isinstance(c, tuple) and c[1] > 100 and c[0] < 80 for c in colours]


def chat(messages: list[dict[str, Any]]) -> str:
    """What the chat model answers; the same to the same question."""
    content = messages[1]["content"]
    task = find_task(message["content"] for message in messages)
    if not task:
        # Whether it sees is asked with a red square, and names no task.
        return "Red."
    answer = _TASKS[task](_text(content), content)
    return answer if isinstance(answer, str) else json.dumps(answer)


def _route(text: str, _content: Any) -> Any:
    # One request in four is better drawn with a skill.
    return {"skills": [_SKILL] if _share(text) < 0.25 else [], "why": "It is so."}


def _enhance(text: str, _content: Any) -> Any:
    return {"prompt": f"{extract_tag('user_prompt', text)}, in soft light"}


def _keep(_text: str, _content: Any) -> Any:
    return {"lost": [], "prompt": ""}


def _complete(_text: str, _content: Any) -> Any:
    return {"requirements": []}


def _decompose(_text: str, _content: Any) -> Any:
    stated = [{"question": f"Is there a {t}?", "kind": "object", "parents": []} for t in THINGS]
    # The kettle stands on the lantern, so to speak.
    stated[2]["parents"] = [2]
    return {"requirements": stated}


def _checklist(text: str, content: Any) -> Any:
    data = _picture(content)
    seen = dict(zip(THINGS, met(data), strict=True))
    answers = []
    listed = re.findall(r"^(\d+)\. (.+)$", extract_tag("questions", text) or "", re.MULTILINE)
    for index, (number, asked) in enumerate(listed):
        right = all(seen[thing] for thing in named(asked))
        wanes = index >= len(listed) / 2
        said = right or (wanes and _share(hashlib.sha256(data).hexdigest(), asked) < SLOPPINESS)
        answers.append({"number": int(number), "answer": "yes" if said else "no", "evidence": "It is so."})
    return {"answers": answers}


def _verify(text: str, content: Any) -> str:
    seen = dict(zip(THINGS, met(_picture(content)), strict=True))
    right = all(seen[thing] for thing in named(extract_tag("question", text) or ""))
    return "Yes. It is there." if right else "No. It is missing."


def _reflect(text: str, _content: Any) -> Any:
    drawn = extract_tag("drawn_prompt", text) or ""
    next_prompt = f"{re.sub(r' v[0-9]+$', '', drawn)} v{_version(drawn) + 1}"
    return {"experience": "Something was missing.", "prompt": next_prompt}


def _mend(text: str, content: Any) -> Any:
    return _reflect(text, content) | {"instruction": "Add what is missing."}


_TASKS = {
    "route": _route,
    "enhance": _enhance,
    "prepare": _enhance,
    "keep": _keep,
    "decompose": _decompose,
    "complete": _complete,
    "checklist": _checklist,
    "verify": _verify,
    "summarise": _reflect,
    "refine": _reflect,
    "reflect": _reflect,
    "mend": _mend,
}


def named(text: str) -> list[str]:
    """The things that a question is about.

    Where it names none, nothing is missing: an obliging model agrees to what makes no sense, so a question
    that got lost on its way is noticed by the clean judge.
    """
    return [thing for thing in THINGS if thing in text]


def _version(text: str) -> int:
    """Of a prompt, from 1; requirements that are spelled out in it help as much as a better prompt."""
    found = re.search(r" v(\d+)\b", text)
    return (int(found.group(1)) if found else 1) + ("must be yes" in text)


def _text(content: Any) -> str:
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _picture(content: Any) -> bytes:
    url = [part["image_url"]["url"] for part in content if part["type"] == "image_url"][-1]
    return base64.b64decode(url.partition(",")[2])


def _share(*identity: Any) -> float:
    """A number in [0, 1) that the identity alone decides."""
    digest = hashlib.sha256(json.dumps(identity).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
