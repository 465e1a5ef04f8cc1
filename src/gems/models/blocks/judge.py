"""Answer questions about a scene: yes, no or unknown, with evidence.

Used for the detected scene (the judge) and for the drawn one (`truth`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import Link, Mention, Reading, parse_text
from gems.models.blocks.prompt_spec import ATTRIBUTES, fold_text
from gems.models.blocks.scene import Scene, Thing, describe_scene, name_things
from gems.models.chat.schemas import OUT_OF_REACH
from gems.types import AnswerValue

_UNDECIDABLE = re.compile(
    r"\b(?:not|or|how many|what|which|where|who|why|more than|fewer|less|at most|except|same|different)\b"
    r"|n['\u2019]t\b",
    re.IGNORECASE,
)
_AT_LEAST = re.compile(r"\bat least\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer and one line of evidence."""

    answer: AnswerValue
    evidence: str


def truth(scene: Scene, question: str) -> AnswerValue:
    """Return the correct answer about a scene that is known exactly, such as `Rendering.scene`."""
    return judge_question(question, scene).answer


# The same questions are asked about each picture of a run, and about many changes of one.
_read_question = lru_cache(maxsize=512)(parse_text)


def judge_question(question: str, scene: Scene) -> Judgement:
    """Answer a yes/no question about a scene; unknown if the question is not understood."""
    # What follows a question is not asked.
    question = question[: question.rfind("?") + 1] or question
    reading = _read_question(question)
    if reading.unknown or not reading.mentions or (reading.places and not reading.links):
        return Judgement("unknown", f"{OUT_OF_REACH}the built-in world knows only flat shapes and short texts.")
    unquoted = question
    for mention in reading.mentions:
        if mention.word:
            unquoted = unquoted.replace(mention.word, "")
    if _UNDECIDABLE.search(unquoted):
        return Judgement("unknown", f"I answer only plain yes/no questions; I see {describe_scene(scene)}.")
    found = _Inquiry(scene, reading, at_least=bool(_AT_LEAST.search(question))).judgements()
    if not found:
        return Judgement("unknown", f"I do not understand what is asked; I see {describe_scene(scene)}.")
    worst = min(found, key=lambda judgement: ("unknown", "no", "yes").index(judgement.answer))
    if worst.answer != "yes":
        return worst
    return Judgement("yes", " ".join(dict.fromkeys(judgement.evidence for judgement in found)))


def match_things(scene: Scene, mention: Mention) -> list[Thing]:
    """Return the things of a scene that a mention describes, leaving its predicate aside."""
    if mention.noun == words.TEXT:
        texts = [thing for thing in scene.things if thing.noun == words.TEXT]
        return [thing for thing in texts if not mention.word or fold_text(thing.word) == fold_text(mention.word)]
    said = mention.attributes.items()
    same = [thing for thing in scene.things if mention.noun in (thing.noun, words.ANYTHING) and not thing.word]
    return [thing for thing in same if all(scene.attribute(thing, name) == value for name, value in said)]


@dataclass
class _Inquiry:
    scene: Scene
    reading: Reading
    at_least: bool

    def judgements(self) -> list[Judgement]:
        """Return one judgement per statement of the question."""
        linked = {i for link in self.reading.links for i in (link.subject, link.target)}
        found = [self._link(link) for link in self.reading.links]
        for index, mention in enumerate(self.reading.mentions):
            if mention.noun == words.BACKGROUND:
                found.append(self._background(mention))
            elif mention.count == 0:
                if index not in linked:
                    found.append(self._none(mention))
            elif mention.noun == words.TEXT:
                if index not in linked:
                    found.append(self._text(mention))
            elif mention.predicate:
                found.append(self._predicate(mention))
            elif index not in linked or mention.explicit:
                found.append(self._count(mention))
        return found

    def _matching(self, mention: Mention) -> list[Thing]:
        return match_things(self.scene, mention)

    def _count(self, mention: Mention) -> Judgement:
        number = len(self._matching(mention))
        if mention.count is not None and mention.explicit:
            met = number >= mention.count if self.at_least else number == mention.count
        else:
            met = number >= (2 if mention.count is None else 1)
        return Judgement("yes" if met else "no", self._census(mention, number))

    def _none(self, mention: Mention) -> Judgement:
        asked = replace(mention, attributes={**mention.attributes, **mention.predicate})
        if mention.noun == words.ANYTHING and asked.attributes == {"colour": self.scene.background}:
            return self._background(asked, wanted=False)
        if mention.noun == words.TEXT:
            found = self._text(replace(mention, count=1))
            return replace(found, answer="no" if found.answer == "yes" else "yes")
        number = len(self._matching(asked))
        return Judgement("no" if number else "yes", self._census(asked, number))

    def _census(self, mention: Mention, number: int) -> str:
        seen = f"I see {self._phrase(mention, number)}"
        others = [thing for thing in self.scene.things if thing.noun == mention.noun]
        if number or not others:
            return f"{seen}."
        # Sizes and textures are reported only if the question mentions them.
        told = {"colour", *mention.attributes}
        kinds = Counter(
            tuple(self.scene.attribute(thing, name) if name in told else "" for name in ATTRIBUTES) for thing in others
        )
        listed = " and ".join(
            name_things(count, size, colour, texture, mention.noun) for (size, colour, texture), count in kinds.items()
        )
        return f"{seen}, but {listed}."

    def _phrase(self, mention: Mention, number: int) -> str:
        phrase = words.noun_phrase(mention.noun, *map(mention.attributes.get, ATTRIBUTES), many=number != 1)
        if number == 1:
            return f"one {phrase}"
        return f"{words.number_word(number) if number else 'no'} {phrase}"

    def _the(self, mention: Mention) -> str:
        if mention.noun == words.TEXT:
            return f'the text "{mention.word}"'
        return f"the {self._name(mention)}"

    def _name(self, mention: Mention) -> str:
        return words.noun_phrase(mention.noun, *map(mention.attributes.get, ATTRIBUTES), many=mention.many)

    def _predicate(self, mention: Mention) -> Judgement:
        things = self._matching(mention)
        if not things:
            return Judgement("no", self._census(mention, 0))
        every: Callable[[Sequence[bool]], bool] = all if mention.many else any
        fits = [
            all(self.scene.attribute(thing, name) == value for name, value in mention.predicate.items())
            for thing in things
        ]
        shown = {self.scene.attribute(thing, name) for thing in things for name in mention.predicate}
        verb = "are" if mention.many else "is"
        evidence = f"{self._the(mention).capitalize()} {verb} {' and '.join(sorted(shown))}."
        counted = not mention.explicit or mention.count == len(things)
        return Judgement("yes" if every(fits) and counted else "no", evidence)

    def _text(self, mention: Mention) -> Judgement:
        texts = [thing.word for thing in self.scene.things if thing.noun == words.TEXT]
        if not texts:
            return Judgement("no", "I see no text.")
        evidence = "I read " + " and ".join(f'"{text}"' for text in texts) + "."
        return Judgement("yes" if self._matching(mention) else "no", evidence)

    def _background(self, mention: Mention, *, wanted: bool = True) -> Judgement:
        asked = mention.predicate.get("colour") or mention.attributes.get("colour")
        seen = self.scene.background or "neutral"
        if asked is None:
            return Judgement("unknown", f"The background is {seen}.")
        return Judgement("yes" if (seen == asked) == wanted else "no", f"The background is {seen}.")

    def _link(self, link: Link) -> Judgement:
        subject, target = self.reading.mentions[link.subject], self.reading.mentions[link.target]
        if words.BACKGROUND in (subject.noun, target.noun):
            return Judgement("unknown", "Nothing can be placed relative to the background.")
        subjects, targets = self._matching(subject), self._matching(target)
        if subject.count == 0:
            met = self._stand(link.relation, subjects, targets, False, False)
            said = f"{'Some' if met else 'No'} {self._name(subject)} {link.relation} {self._the(target)}"
            return Judgement("no" if met else "yes", f"I see {said.lower()}.")
        for mention, things in ((subject, subjects), (target, targets)):
            if not things:
                missing = f"I do not see {self._the(mention)}." if mention.noun == words.TEXT else ""
                return Judgement("no", missing or self._census(mention, 0))
        met = self._stand(link.relation, subjects, targets, subject.many, target.many)
        who, verb, to = self._the(subject).capitalize(), "are" if subject.many else "is", self._the(target)
        if met:
            return Judgement("yes", f"{who} {verb} {link.relation} {to}.")
        really = [r for r in words.RELATIONS if self._stand(r, subjects, targets, subject.many, target.many)]
        instead = f", but {' and '.join(really)} it" if really else ""
        return Judgement("no", f"{who} {verb} not {link.relation} {to}{instead}.")

    def _stand(
        self, relation: str, subjects: list[Thing], targets: list[Thing], every_subject: bool, every_target: bool
    ) -> bool:
        """Whether the relation holds; a plural means each of them, but one container or base is enough."""
        all_targets = every_target and relation not in ("inside", "on")
        over_targets: Callable[[Sequence[bool]], bool] = all if all_targets else any
        over_subjects: Callable[[Sequence[bool]], bool] = all if every_subject else any
        results = []
        for subject in subjects:
            others = [target for target in targets if target is not subject]
            holds = [self.scene.holds(subject, relation, target) for target in others]
            results.append(bool(holds) and over_targets(holds))
        return over_subjects(results)
