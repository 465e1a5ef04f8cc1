"""What follows up on an earlier picture, by rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import Mention, parse_text, tokenize
from gems.models.blocks.prompt_spec import Group, PromptSpec, describe_spec, find_group, parse_prompt, phrase
from gems.models.chat.schemas import FollowUpReply

_LINE = re.compile(r"(Person|Program)(?: \(pictures? ([\d, ]+)\))?:(.*)")
_AGAIN = re.compile(r"\b(?:again|another|once more|redo|retry|try|anew)\b", re.IGNORECASE)
_CHANGE = re.compile(
    r"^\W*(?:(?:now|and|but|then|please|can you|could you)\W+)*"
    r"(?:make|change|turn|recolou?r|replace|swap|remove|delete|erase|take|add|insert|put|move|write|without|instead|but"
    r"|set|paint|use)\b|\b(?:it|them|same|instead)\b",
    re.IGNORECASE,
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINAL = re.compile(rf"\b({'|'.join(_ORDINALS)})\s+(?:one|picture|image)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\b(?:picture|image|number)\s*#?(\d{1,3})\b", re.IGNORECASE)


def read_follow_up(conversation: str, message: str) -> FollowUpReply:
    """Return what a message asks for after a conversation of lines as `TASK_TAGS` says."""
    described = _describe_pictures(conversation)
    named = _NUMBER.search(message) or _ORDINAL.search(message)
    picture = max(described, default=0)
    if named is not None:
        said = named[1].lower()
        picture = _ORDINALS.index(said) + 1 if said in _ORDINALS else int(said)
    again, changed = _AGAIN.search(message), named or _CHANGE.search(message)
    if not described or not (again or changed):
        return FollowUpReply(kind="new")
    before = described.get(picture, "")
    prompt = revise_prompt(before, message)
    if again:
        return FollowUpReply(kind="again", picture=picture, prompt=prompt)
    return FollowUpReply(kind="change", picture=picture, instruction=_name_things(before, message), prompt=prompt)


def _describe_pictures(conversation: str) -> dict[int, str]:
    """Return what each picture of a conversation shows, as far as its text tells; 0 for one that was not drawn."""
    described, asked = dict[int, str](), ""
    # The last line is the message itself.
    for line in conversation.splitlines()[:-1]:
        found = _LINE.fullmatch(line.strip())
        if found is None:
            continue
        who, numbers, text = found.groups()
        if who == "Person":
            follows = described and (_AGAIN.search(text) or _CHANGE.search(text))
            asked = revise_prompt(described[max(described)], text) if follows else text.strip()
            if not max(described, default=0):
                described[0] = asked
        for number in re.findall(r"\d+", numbers or ""):
            described[int(number)] = asked if who == "Program" else ""
    return described


def revise_prompt(prompt: str, instruction: str) -> str:
    """Return the prompt for a picture that is changed as an instruction says."""
    spec = parse_prompt(prompt)
    for mention in _mentions(spec, instruction):
        if mention.noun == words.BACKGROUND:
            spec.background = mention.attributes.get("colour") or mention.predicate.get("colour") or spec.background
            continue
        index = _meant_group(spec, mention)
        if mention.count == 0:
            _remove_groups(spec, mention)
        elif index is not None and mention.definite:
            spec.groups[index].attributes |= mention.attributes | mention.predicate
        else:
            looks = mention.attributes | mention.predicate
            spec.groups.append(Group(mention.noun, mention.count, mention.explicit, looks, mention.word))
    # With articles, so that they are not read as further things.
    relations = [
        f"the {phrase(spec, one.subject)} {'are' if spec.groups[one.subject].many else 'is'} {one.name} "
        f"the {phrase(spec, one.target)}"
        for one in spec.relations
    ]
    things = ", ".join(describe_spec(replace(spec, relations=[])))
    return ". ".join(filter(None, [things, *relations])) or prompt or instruction


def _mentions(spec: PromptSpec, instruction: str) -> Iterator[Mention]:
    """Yield what an instruction names; looks without a thing are of the first thing in the picture."""
    found = parse_text(instruction).mentions
    looks = [words.ADJECTIVES[token.value.lower()] for token in tokenize(instruction) if token.kind == "adjective"]
    if found or not looks or not spec.groups:
        yield from found
    else:
        yield Mention(noun=spec.groups[0].noun, count=None, definite=True, attributes=dict(looks))


def _meant_group(spec: PromptSpec, mention: Mention) -> int | None:
    same = [index for index, group in enumerate(spec.groups) if group.noun == mention.noun]
    return same[0] if len(same) == 1 else find_group(spec, mention)


def _remove_groups(spec: PromptSpec, mention: Mention) -> None:
    gone = {
        index
        for index, group in enumerate(spec.groups)
        if group.noun == mention.noun and mention.attributes.items() <= group.attributes.items()
    }
    spec.relations = [one for one in spec.relations if not gone & {one.subject, one.target}]
    left = [index for index in range(len(spec.groups)) if index not in gone]
    spec.groups = [spec.groups[index] for index in left]
    for relation in spec.relations:
        relation.subject, relation.target = left.index(relation.subject), left.index(relation.target)


def _name_things(before: str, message: str) -> str:
    """Return an instruction that names what `it` is, for an editor that has not read the conversation."""
    spec = parse_prompt(before)
    if parse_text(message).mentions or not spec.groups:
        return message
    looks: Sequence[str] = [token.value for token in tokenize(message) if token.kind == "adjective"]
    named = (
        words.noun_phrase(spec.groups[0].noun, many=spec.groups[0].many) if len(spec.groups) > 1 else phrase(spec, 0)
    )
    return f"make the {named} {' and '.join(looks)}" if looks else message
