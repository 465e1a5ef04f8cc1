"""Write the prompts of blocks-bench: the same seed always makes the same file.

python scripts/make_blocks_bench.py [--check]

Each prompt has from three to ten requirements and a topic, and of many drafts the one is taken whose words
were used least so far. A draft that the built-in world cannot understand, or cannot draw without a fault of
its own, is left out: what is measured is how often things go wrong, not what is impossible.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gems.evals.benchmarks.blocks_bench import Fact, FactKind, shows_fact
from gems.models.blocks import vocabulary as words
from gems.models.blocks.error_model import Sketch, seeded_random
from gems.models.blocks.layout import place_groups
from gems.models.blocks.prompt_spec import parse_prompt

FILE = Path(__file__).resolve().parent.parent / "src" / "gems" / "evals" / "benchmarks" / "blocks_bench.jsonl"
PROMPTS, SEED, SIDE = 200, 2026, 512
LEVELS = range(3, 11)
TOPICS: tuple[FactKind, ...] = ("count", "colour", "size", "texture", "relation", "text")
DRAFTS, LAYOUTS = 40, 3
_TEXT = """
    GO RED STOP OPEN PLAY HELP LOVE WEST EAST NORTH SOUTH GAME TREE NIGHT FIVE HELLO SALE EXIT MUSIC WATER
    PARK SHOP CAFE BOOK MOON SUN STAR FISH RAIN SNOW HOME LEFT START NEXT PAUSE MENU ZERO TEAM DATA CODE
"""
WORDS = _TEXT.split()
RELATIONS = ("left of", "right of", "above", "below", "inside", "on")
ATTRIBUTES: tuple[FactKind, ...] = ("colour", "size", "texture")


@dataclass
class Group:
    """Things of one shape, or a text."""

    shape: str
    count: int = 1
    said: dict[FactKind, str] = field(default_factory=dict)
    word: str = ""

    def phrase(self) -> str:
        """As the prompt names it."""
        if self.word:
            return f'the word "{self.word}"'
        adjectives = [self.said.get(name) for name in ("size", "texture", "colour")]
        noun = words.noun_phrase(self.shape, *adjectives, many=self.count > 1)
        return f"{words.number_word(self.count)} {noun}" if self.count > 1 else words.with_article(noun)

    def facts(self) -> list[Fact]:
        """What it must show."""
        if self.word:
            return [Fact(kind="text", shape="text", value=self.word)]
        found = [Fact(kind="object", shape=self.shape)]
        if self.count > 1:
            found.append(Fact(kind="count", shape=self.shape, value=str(self.count)))
        return found + [Fact(kind=kind, shape=self.shape, value=value) for kind, value in self.said.items()]


@dataclass
class Draft:
    """A prompt in the making."""

    groups: list[Group]
    links: list[tuple[int, str, int]]
    background: str

    def text(self) -> str:
        """The prompt: `three red circles above a blue square, and a star, on a pink background`."""
        parts = []
        linked = {subject: (name, target) for subject, name, target in self.links}
        named: set[int] = set()
        for index, group in enumerate(self.groups):
            if index in named:
                continue
            part = group.phrase()
            if index in linked:
                name, target = linked[index]
                other = self.groups[target]
                part += f" {name} {f'the {self._noun(other)}' if target in named else other.phrase()}"
                named.add(target)
            named.add(index)
            parts.append(part)
        joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
        return joined + (f", on {words.with_article(self.background)} background" if self.background else "")

    def _noun(self, group: Group) -> str:
        return words.plural(group.shape) if group.count > 1 else group.shape

    def facts(self) -> list[Fact]:
        """Everything the picture must show."""
        found = [fact for group in self.groups for fact in group.facts()]
        for subject, name, target in self.links:
            a, b = self.groups[subject].shape, self.groups[target].shape
            found.append(Fact(kind="relation", shape=a, value=name, target=b))
        if self.background:
            found.append(Fact(kind="background", value=self.background))
        return found


def drafted(rng: random.Random, level: int) -> Draft:
    """Some draft of about `level` requirements."""
    number = rng.choices(range(1, 5), weights=[max(0.05, 3 - abs(level - 2.6 * n)) for n in range(1, 5)])[0]
    shapes = rng.sample(words.SHAPES, number)
    colours = rng.sample(words.COLOURS, number + 1)
    groups = [_group(rng, shape, colour) for shape, colour in zip(shapes, colours, strict=False)]
    if number > 1 and rng.random() < 0.35:
        groups[-1] = Group("text", word=rng.choice(WORDS))
    links: list[tuple[int, str, int]] = []
    if number > 1 and rng.random() < 0.7:
        links.append((0, rng.choice(RELATIONS), 1))
    if number > 2 and links and rng.random() < 0.5:
        links.append((2, rng.choice(RELATIONS[:4]), 1))
    background = colours[-1] if rng.random() < 0.3 else ""
    return Draft(groups, links, background)


def _group(rng: random.Random, shape: str, colour: str) -> Group:
    group = Group(shape, rng.choice((1, 1, rng.randint(2, 7))))
    for kind in ATTRIBUTES:
        if rng.random() < (0.75 if kind == "colour" else 0.45):
            values = {"colour": (colour,), "size": ("small", "large"), "texture": words.TEXTURES[1:]}[kind]
            group.said[kind] = rng.choice(values)
    return group


def understood(draft: Draft) -> bool:
    """Whether the world reads in the prompt what is meant: the same facts and no other."""
    spec = parse_prompt(draft.text())
    read = [fact for group in spec.groups for fact in _read(group)]
    for link in spec.relations:
        a, b = spec.groups[link.subject].noun, spec.groups[link.target].noun
        read.append(Fact(kind="relation", shape=a, value=link.name, target=b))
    if spec.background:
        read.append(Fact(kind="background", value=spec.background))
    return not spec.unknown and sorted(map(str, read)) == sorted(map(str, draft.facts()))


def _read(group: Any) -> list[Fact]:
    count = group.count if group.explicit else 1
    return Group(group.noun, count, dict(group.attributes), group.word).facts()


def drawable(draft: Draft) -> bool:
    """Whether everything holds in every one of some layouts that were drawn without a fault."""
    text, facts = draft.text(), draft.facts()
    spec = parse_prompt(text)
    for group in spec.groups:
        if group.noun != words.TEXT:
            group.attributes = {"colour": "gray", "texture": "plain", "size": "medium", **group.attributes}
    sketch = Sketch(spec.groups, spec.relations, spec.background or "")
    scenes = [place_groups(sketch, seeded_random(text, seed, "layout"), SIDE, SIDE) for seed in range(LAYOUTS)]
    return all(shows_fact(scene, fact) for scene in scenes for fact in facts)


def suits(draft: Draft, level: int, topic: FactKind) -> bool:
    """Whether a draft has so many requirements, and enough of its topic; a shape's holder is one thing."""
    facts = draft.facts()
    wanted = 1 if topic == "text" or level < 6 else 2
    holders = [draft.groups[target] for _, name, target in draft.links if name in ("inside", "on")]
    return (
        len(facts) == level
        and sum(fact.kind == topic for fact in facts) >= wanted
        and all(group.count == 1 and not group.word for group in holders)
    )


def made(prompts: int = PROMPTS) -> list[dict[str, Any]]:
    """The first prompts, as many as are wanted."""
    rng = random.Random(SEED)  # noqa: S311 - for prompts, not for secrets
    used: Counter[tuple[str, str]] = Counter()
    texts: set[str] = set()
    records = []
    for index in range(prompts):
        level = LEVELS[index % len(LEVELS)]
        topic = TOPICS[(index % len(LEVELS) + index // len(LEVELS)) % len(TOPICS)]
        draft = _chosen(rng, level, topic, used, texts)
        facts = draft.facts()
        used.update(_words(facts))
        texts.add(draft.text())
        records.append(
            {
                "id": f"{index:03d}",
                "prompt": draft.text(),
                "category": topic,
                "atomicity": level,
                "requirements": [fact.model_dump(exclude_defaults=True) for fact in facts],
            }
        )
    return records


def _words(facts: list[Fact]) -> list[tuple[str, str]]:
    """What is counted: every kind, and every value of a kind."""
    return [pair for fact in facts for pair in ((fact.kind, ""), (fact.kind, fact.value or fact.shape))]


def _staleness(facts: list[Fact], used: Counter[tuple[str, str]]) -> float:
    """How often the kinds of a draft were used so far, and then their values, per requirement."""
    told = [fact for fact in facts if fact.kind != "object"]
    values = sum(used[fact.kind, fact.value or fact.shape] for fact in facts) / len(facts)
    return sum(used[fact.kind, ""] for fact in told) / len(told) + values


def _chosen(rng: random.Random, level: int, topic: FactKind, used: Counter[tuple[str, str]], texts: set[str]) -> Draft:
    """Of some drafts that suit, the one whose words were used least."""
    found: list[Draft] = []
    while len(found) < DRAFTS:
        draft = drafted(rng, level)
        if suits(draft, level, topic) and draft.text() not in texts and understood(draft):
            found.append(draft)
    found.sort(key=lambda draft: _staleness(draft.facts(), used))
    return next(draft for draft in found if drawable(draft))


def main() -> None:
    """Write the file, or say whether it is as this script makes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file differs")
    options = parser.parse_args()
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in made())
    if options.check:
        sys.exit(0 if FILE.read_text(encoding="utf-8") == text else f"{FILE.name} is not what is made now.")
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
