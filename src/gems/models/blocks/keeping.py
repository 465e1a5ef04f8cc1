"""Find requirements that a rewritten prompt lost, and restore them.

A requirement is kept if every image that follows the new prompt meets it. It is contradicted if it cannot be
restored without losing something of the new prompt; then the contradicting word is replaced. Every proposal
is parsed again; the user's own prompt is returned if the corrected one would still lose more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gems.models.blocks.exchanging import propose_exchanges
from gems.models.blocks.parser import parse_text
from gems.models.blocks.promising import Promise
from gems.models.blocks.prompt_spec import Group, PromptSpec, fold_text, parse_prompt
from gems.models.blocks.stating import find_content_words, propose_statements
from gems.models.schemas import KeptReply, LossReply

_MAX_CHARACTERS = 2000
"""Longest prompt in which words are replaced."""


def restore_prompt(user_prompt: str, new_prompt: str, questions: list[str]) -> KeptReply:
    """Return the yes/no questions that the new prompt lost, and the corrected prompt; empty if none."""
    return _Comparison(user_prompt.strip(), questions).reply(new_prompt.strip())


@dataclass
class _Comparison:
    user_prompt: str
    questions: list[str]
    _promises: dict[str, Promise] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._user = parse_prompt(self.user_prompt)

    def reply(self, new_prompt: str) -> KeptReply:
        lost = self._lost(new_prompt)
        if not lost:
            return KeptReply()
        losses = [
            LossReply(number=n + 1, how="contradicted" if self._contradicted(new_prompt, n) else "dropped")
            for n in lost
        ]
        return KeptReply(lost=losses, prompt=self._corrected(new_prompt, losses))

    def _promise(self, prompt: str) -> Promise:
        if prompt not in self._promises:
            self._promises[prompt] = Promise(prompt)
        return self._promises[prompt]

    def _lost(self, prompt: str) -> list[int]:
        return [n for n, question in enumerate(self.questions) if not self._keeps(prompt, question)]

    def _keeps(self, prompt: str, question: str) -> bool:
        answer = self._promise(prompt).answer(question)
        if answer == "unknown":
            return find_content_words(question) <= find_content_words(prompt)
        return answer == "yes"

    def _contradicted(self, prompt: str, number: int) -> bool:
        question = self.questions[number]
        if self._promise(prompt).answer(question) == "unknown":
            # Text that is not understood can be missing, but not recognised as contradicted.
            return False
        return self._stranger(prompt, question) or self._put_back(prompt, number) is None

    def _stranger(self, prompt: str, question: str) -> bool:
        """Whether the prompt replaces a requested thing by one of its kind that the user never named."""
        nouns = {mention.noun for mention in parse_text(question).mentions}
        return any(
            group.noun in nouns and not any(_is_compatible(group, own) for own in self._user.groups)
            for group in self._promise(prompt).spec.groups
        )

    def _put_back(self, prompt: str, number: int) -> str | None:
        """Add a sentence that restores a question; None if that loses something else."""
        before, asked = set(self._lost(prompt)), self._promise(prompt)
        if asked.answer(self.questions[number]) == "unknown" and parse_text(self.questions[number]).mentions:
            # A phrase such as "not red" would be parsed as its opposite.
            return None
        best: tuple[int, str] | None = None
        for sentence in propose_statements(self.questions[number], self._user, asked.spec):
            text = f"{prompt}\n{sentence}".strip()
            promise = self._promise(text)
            sound = all(self._keeps(text, question) for question in asked.questions)
            lost = set(self._lost(text))
            if sound and _is_extension(asked.spec, promise.spec) and number not in lost and lost <= before:
                # Fewer things in the image are better.
                size = len(promise.spec.groups)
                best = min(best or (size, text), (size, text), key=lambda pair: pair[0])
        return best[1] if best else None

    def _corrected(self, prompt: str, losses: list[LossReply]) -> str:
        for loss in losses:
            if loss.how == "contradicted":
                prompt = self._exchanged(prompt, loss.number - 1)
        for number in self._lost(prompt):
            if not self._keeps(prompt, self.questions[number]):
                prompt = self._put_back(prompt, number) or prompt
        own = self._from_the_user()
        return prompt if not own or set(self._lost(prompt)) <= set(self._lost(own)) else own

    def _exchanged(self, prompt: str, number: int) -> str:
        """Replace one wording to restore a question without losing another."""
        before = set(self._lost(prompt))
        if number not in before or len(prompt) > _MAX_CHARACTERS:
            return prompt
        texts = [text for text in propose_exchanges(prompt, self.questions[number]) if text != prompt]
        # A word may be enough, or a word and a sentence: another count, and a missing colour.
        for mended in [*texts, *(self._put_back(text, number) for text in texts)]:
            if mended and not self._stranger(mended, self.questions[number]):
                lost = set(self._lost(mended))
                if number not in lost and lost < before:
                    return mended
        return prompt

    def _from_the_user(self) -> str:
        """Return the user's prompt with sentences for questions that even it does not answer."""
        prompt = self.user_prompt
        for number in self._lost(prompt):
            prompt = self._put_back(prompt, number) or prompt
        return prompt


def _is_compatible(group: Group, own: Group) -> bool:
    """Whether both can be the same things: no attributes contradict each other."""
    if group.noun != own.noun or fold_text(group.word) != fold_text(own.word):
        return False
    return all(own.attributes.get(name, value) == value for name, value in group.attributes.items())


def _is_extension(old: PromptSpec, new: PromptSpec) -> bool:
    """Whether the new spec keeps all facts of the old one and adds only unspecified ones."""
    return all(
        before.noun == after.noun
        and before.count in (None, after.count)
        and before.attributes.items() <= after.attributes.items()
        for before, after in zip(old.groups, new.groups, strict=False)
    )
