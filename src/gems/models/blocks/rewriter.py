"""Enhance, check and restore a prompt; draft a skill."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gems.models.blocks.judge import judge_question
from gems.models.blocks.parser import Mention, parse_text
from gems.models.blocks.prompt_spec import (
    ATTRIBUTES,
    Fact,
    Group,
    PromptSpec,
    Relation,
    decompose_prompt,
    find_facts,
    find_group,
    fold_text,
    parse_prompt,
)
from gems.models.blocks.reflector import (
    TOPICS,
    Record,
    learn_lessons,
    list_facts,
    list_wordings,
    write_clause,
    write_outcome,
    write_outcomes,
    write_sentence,
)
from gems.models.blocks.scene import Scene
from gems.models.blocks.vocabulary import BACKGROUND, INVERSE
from gems.models.chat.schemas import MOST_AMENDMENTS, AmendmentReply, AmendmentsReply, DraftReply, KeptReply, LossReply

_NEUTRAL_TRUST = 0.5
"""`Record.trust` without evidence: only wordings above it are recommended."""
_TOPIC_PATTERNS = {
    kind: re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    for kind, pattern in {
        "count": r"count(?:s|ed|ing)?|numbers?|how many",
        "relation": r"places?|placed|placing|placement|positions?|positioned|positioning|layouts?|spatial"
        r"|arrangements?",
        "text": r"lettering|letters?|texts?|quoted|spell(?:s|ed|ing)?|typography",
    }.items()
}
_DEFAULT_WORDINGS = {"count": "exactly", "relation": "place", "text": "spelled"}
_NOT_LETTERING = re.compile(r"\btext[- ]to[- ]image\b", re.IGNORECASE)
_SHOWN = re.compile(r"\W*does\s+(?:this|the)\s+image\s+show\s*:?\s*(.+)", re.IGNORECASE)
_THERE = re.compile(r"\W*(is|are)\s+there\s+(.+)", re.IGNORECASE)
_IN_QUESTIONS = "the this and for are was does with from there image show exactly not"
_QUESTION_WORDS = frozenset(_IN_QUESTIONS.split())
_NOTHING_SHOWN = Scene(1, 1, "", ())
_LISTED_TEXT = re.compile(r"^## (\S+ \S+)\n(.*?)(?=^## (?:skill|wording|recipe|rule) |\Z)", re.MULTILINE | re.DOTALL)
_NAMES = {"count": "counting-shapes", "relation": "spatial-placing"}


def prepare_prompt(prompt: str, lessons: str) -> str:
    """Append a sentence for each fact that lessons have a wording for."""
    spec, record = parse_prompt(prompt), Record()
    learn_lessons(record, lessons)
    lines = [write_sentence(spec, *planned) for planned in _plan_sentences(spec, record, set())]
    return "\n".join([prompt.strip(), *dict.fromkeys(lines)])


def enhance_prompt(prompt: str, guidance: str) -> str:
    """Append a sentence for each fact that the guidance is about."""
    spec, record, said = parse_prompt(prompt), Record(), prompt.strip().splitlines()
    record.learn(guidance)
    for fact, wording in _plan_sentences(spec, record, find_topics(guidance)):
        line = write_sentence(spec, fact, wording)
        if fact[0] == "count" and not spec.groups[fact[1]].count:
            continue
        again = parse_prompt("\n".join([*said, line]))
        same = (again.groups, again.relations, again.background)
        if line not in said and same == (spec.groups, spec.relations, spec.background):
            said.append(line)
    return "\n".join(said)


def find_topics(guidance: str) -> set[str]:
    """Return the kinds of facts that the headings and the first paragraph of a guidance mention."""
    opening: list[str] = []
    for block in re.split(r"\n\s*\n", guidance.strip()):
        opening += block.strip().splitlines()
        if any(line.strip() and not line.lstrip().startswith("#") for line in opening):
            break
    text = _NOT_LETTERING.sub("", "\n".join(opening))
    return {kind for kind, pattern in _TOPIC_PATTERNS.items() if pattern.search(text)}


def _plan_sentences(spec: PromptSpec, record: Record, topics: set[str]) -> Iterator[tuple[Fact, str]]:
    for fact in list_facts(spec):
        kind, options = fact[0], list_wordings(spec, fact)
        best = max(options, key=lambda wording: record.trust(fact[0], wording))
        default = _DEFAULT_WORDINGS.get(kind)
        if record.trust(kind, best) > _NEUTRAL_TRUST:
            yield fact, best
        elif kind in topics and default in options and record.trust(kind, default) >= _NEUTRAL_TRUST:
            yield fact, default


def restore_prompt(user_prompt: str, new_prompt: str, questions: list[str]) -> KeptReply:
    """Return the yes/no questions that the new prompt lost, and the corrected prompt; empty if none."""
    user, new = parse_prompt(user_prompt), parse_prompt(new_prompt)
    lost = _list_lost(new_prompt, questions)
    if not lost:
        return KeptReply(lost=[])
    contradicted = {n for n in lost if _is_contradicted(questions[n], user, new)}
    losses = [LossReply(number=n + 1, how="contradicted" if n in contradicted else "dropped") for n in lost]
    restored, own = (_append_statements(text.strip(), questions, user) for text in (new_prompt, user_prompt))
    keeps_all = set(_list_lost(restored, questions)) <= set(_list_lost(own, questions))
    return KeptReply(lost=losses, prompt=restored if keeps_all and not contradicted else own)


def _list_lost(prompt: str, questions: list[str]) -> list[int]:
    spec, asked = parse_prompt(prompt), {requirement.question for requirement in decompose_prompt(prompt)}
    return [
        number
        for number, question in enumerate(questions)
        if question not in asked and not _asks_for(spec, prompt, question)
    ]


def _asks_for(spec: PromptSpec, prompt: str, question: str) -> bool:
    """Whether a prompt guarantees yes to a question; questions that are not understood go by their words."""
    reading = parse_text(question)
    mentions, links = reading.mentions, reading.links
    if not mentions or judge_question(question, _NOTHING_SHOWN).answer == "unknown":
        return _content_words(question) <= _content_words(prompt)
    related = all(
        any(
            _implies(relation.name, link.relation)
            and _fits(spec.groups[relation.subject], mentions[link.subject])
            and _fits(spec.groups[relation.target], mentions[link.target])
            for relation in _with_inverse(spec.relations)
        )
        for link in links
    )
    linked = {index for link in links for index in (link.subject, link.target)}
    return related and all(
        _asks_for_mention(spec, mention, counted=not mention.predicate and index not in linked)
        for index, mention in enumerate(mentions)
    )


def _asks_for_mention(spec: PromptSpec, mention: Mention, *, counted: bool) -> bool:
    if mention.noun == BACKGROUND:
        return spec.background in {**mention.attributes, **mention.predicate}.values()
    return any(
        _fits(group, mention)
        and (
            group.count == mention.count
            if mention.explicit
            else group.count != 0 and (group.many or not (counted and mention.many))
        )
        for group in spec.groups
    )


def _with_inverse(relations: list[Relation]) -> list[Relation]:
    turned = [Relation(r.target, INVERSE[r.name], r.subject) for r in relations if r.name in INVERSE]
    return [*relations, *turned]


def _implies(stated: str, asked: str) -> bool:
    return stated == asked or (stated, asked) == ("on", "above")


def _fits(group: Group, mention: Mention) -> bool:
    said = {**mention.attributes, **mention.predicate}
    same = group.noun == mention.noun and fold_text(group.word) == fold_text(mention.word)
    return same and said.items() <= group.attributes.items()


def _content_words(text: str) -> set[str]:
    """Return the words of three letters or more, as singulars, except those of any question."""
    found = re.findall(r"\w{3,}", text.lower())
    return {word.removesuffix("s") for word in found if word not in _QUESTION_WORDS}


def _is_contradicted(question: str, user: PromptSpec, new: PromptSpec) -> bool:
    """Whether the new prompt says something else about what a question is about."""
    nouns = {mention.noun for mention in parse_text(question).mentions}
    if BACKGROUND in nouns and new.background not in (None, user.background):
        return True
    if any(group.noun in nouns and not any(_is_compatible(group, own) for own in user.groups) for group in new.groups):
        return True
    asked = [user.relations[index] for kind, index in find_facts(question, user) if kind == "relation"]
    return any(
        _is_compatible(new.groups[other.subject], user.groups[relation.subject])
        and _is_compatible(new.groups[other.target], user.groups[relation.target])
        and other.name != relation.name
        for relation in asked
        for other in _with_inverse(new.relations)
    )


def _is_compatible(group: Group, own: Group) -> bool:
    """Whether a group of the new prompt can be one of the user's."""
    counts = group.count in (None, own.count) or (own.count is None and group.many)
    same = group.noun == own.noun and fold_text(group.word) == fold_text(own.word)
    return counts and same and all(own.attributes.get(n, value) == value for n, value in group.attributes.items())


def _append_statements(prompt: str, questions: list[str], user: PromptSpec) -> str:
    """Append a sentence for each question that a prompt lost, where that restores it and loses no other."""
    lost = set(_list_lost(prompt, questions))
    for number in sorted(lost):
        text = f"{prompt}\n{_state(questions[number], user, parse_prompt(prompt))}".strip()
        left = set(_list_lost(text, questions))
        if number in lost and number not in left and left < lost:
            prompt, lost = text, left
    return prompt


def _state(question: str, user: PromptSpec, spec: PromptSpec) -> str:
    """Turn a yes/no question into a statement to append to a prompt of this spec; empty if unsafe."""
    mentions = parse_text(question).mentions
    if mentions and judge_question(question, _NOTHING_SHOWN).answer == "unknown":
        # A phrase such as "not red" would be parsed as its opposite.
        return ""
    for kind, index in find_facts(question, user):
        if kind not in ATTRIBUTES or kind in user.groups[index].attributes:
            clause = write_clause(user, ("object" if kind == "count" else kind, index))
            # Without this a square of the prompt and the blue square of the question would be two.
            again = kind in ("object", "count") and find_group(spec, mentions[0]) is not None
            return f"Again: {clause}." if again else f"{clause[:1].upper()}{clause[1:]}."
    asked = " ".join(question.split()).rstrip(" ?.!")
    if match := _THERE.fullmatch(asked):
        return f"There {match[1].lower()} {match[2]}."
    if match := _SHOWN.fullmatch(asked):
        return f"Show {match[1]}."
    return f"Make sure that the answer is yes: {asked}?"


def propose_amendments(lessons: str, texts: str) -> AmendmentsReply:
    """Propose to state the wordings that worked, by numbered lessons, in each of the listed texts that can use them."""
    record = Record()
    learn_lessons(record, lessons)
    found = []
    for kind, wording in record.known():
        worked, failed = record.worked[kind, wording], record.failed[kind, wording]
        if worked <= failed:
            continue
        rule = write_outcome(kind, wording, worked=True)
        reason = f"It worked for {TOPICS[kind]} {worked} of {worked + failed} times."
        for head, text in _LISTED_TEXT.findall(texts):
            where, _, target = head.partition(" ")
            if (where, target) == ("wording", "reflect") or (where == "skill" and kind in find_topics(text)):
                found.append(AmendmentReply(kind=where, target=target, after=rule, reason=reason))
    return AmendmentsReply(amendments=found[:MOST_AMENDMENTS])


def draft_skill(skill: str, lessons: str) -> DraftReply:
    """Draft a new skill from numbered lessons; an existing `skill` is not amended, the body stays empty."""
    if skill.strip() not in ("", "(none)"):
        return DraftReply(description="", body="")
    record = Record()
    learn_lessons(record, lessons)
    keys = record.known()
    helped = dict.fromkeys(kind for kind, _ in keys if record.helped(kind))
    topics = " and ".join(TOPICS[kind] for kind in helped)
    name = _NAMES.get(keys[0][0], f"stating-{TOPICS[keys[0][0]]}") if keys else "drawing-shapes"
    rules = [f"- {write_outcomes(*key, record.worked[key], record.failed[key])}" for key in keys]
    description, purpose = "Of no use yet: no wording worked.", "Leave the prompt as it is."
    if helped:
        description = f"States {topics} in wordings that worked. For prompts with several such facts."
        purpose = f"Keep the prompt, and state {topics} once more in a wording that worked."
    body = "\n".join([f"# {name.replace('-', ' ').capitalize()}", "", purpose, "", *rules])
    return DraftReply(name=name, description=description, body=body)
