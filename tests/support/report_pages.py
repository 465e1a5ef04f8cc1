"""Runs whose pages are worth looking at."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.support.scripted_models import checks, requirements
from tests.support.scripted_service import House

HOSTILE = (
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>\"'>&amp; {{ 7 * 7 }} "
    "<style>body{display:none}</style> </textarea></title><h1>big</h1> javascript:alert(1)"
)
ENDLESS = "w" * 500


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        found = (attrs for name, attrs in self.elements if name == tag)
        return [attrs for attrs in found if not kind or kind in (attrs.get("class") or "").split()]


def eventful(home: Path, text: str = "seen") -> House:
    """A home whose judge takes back in the third round what the second had met."""
    house = House(home)
    answers = [("no", "no"), ("yes", "no"), ("no", "unknown")]
    house.chat.script["decompose"] = requirements(f"Is there a cat? {text}", f"Is it red? {text}")
    house.chat.script["verify"] = "I cannot tell."

    def judge(asked: Any) -> dict[str, Any]:
        told = checks(*answers[min(len(house.chat.about("reflect")), 2)])
        for item in told["answers"]:
            item["evidence"] = f"{text} {item['number']}"
        return told

    house.chat.script["checklist"] = judge
    house.chat.script["reflect"] = lambda asked: {
        "experience": f"It lacks something. {text}",
        "prompt": f"{asked.tag('drawn_prompt')} and {text}",
    }
    return house
