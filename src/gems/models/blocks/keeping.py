"""What a rewritten prompt lost of the user's, and the prompt with it put back.

A requirement is kept where every picture that follows the new prompt would meet it. It is contradicted where
it cannot be put back without taking something from the new prompt; then the word that contradicts it is
exchanged. Whatever is proposed is read again; the user's own prompt is given where a correction would still
lose more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gems.models.blocks.exchanging import exchanges
from gems.models.blocks.parser import read
from gems.models.blocks.promising import Promise
from gems.models.blocks.prompt_spec import Brief, Group, folded, understand
from gems.models.blocks.stating import content_words, statements
from gems.models.schemas import KeptReply, LossReply

_LONGEST = 2000
"""Characters; in longer prompts no words are exchanged."""


def compared(user_prompt: str, new_prompt: str, questions: list[str]) -> KeptReply:
    """Which questions the new prompt lost, and the corrected prompt; both empty where nothing is lost.

    Args:
        user_prompt: As the user wrote it.
        new_prompt: As it was rewritten.
        questions: What the user asked for, one yes/no question each.
    """
    return _Comparison(user_prompt.strip(), questions).reply(new_prompt.strip())


@dataclass
class _Comparison:
    user_prompt: str
    questions: list[str]
    _promises: dict[str, Promise] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._user = understand(self.user_prompt)

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
            return content_words(question) <= content_words(prompt)
        return answer == "yes"

    def _contradicted(self, prompt: str, number: int) -> bool:
        question = self.questions[number]
        if self._promise(prompt).answer(question) == "unknown":
            # What the world does not understand can be missing, but it cannot tell whether it is denied.
            return False
        return self._stranger(prompt, question) or self._put_back(prompt, number) is None

    def _stranger(self, prompt: str, question: str) -> bool:
        """Whether the prompt has, in place of something asked for, its like that the user never named."""
        nouns = {mention.noun for mention in read(question).mentions}
        return any(
            group.noun in nouns and not any(_alike(group, own) for own in self._user.groups)
            for group in self._promise(prompt).brief.groups
        )

    def _put_back(self, prompt: str, number: int) -> str | None:
        """The prompt with one more sentence that keeps a question; None where that takes something away."""
        before, asked = set(self._lost(prompt)), self._promise(prompt)
        if asked.answer(self.questions[number]) == "unknown" and read(self.questions[number]).mentions:
            # What is not understood of a known thing, such as "not red", would be read as its opposite.
            return None
        best: tuple[int, str] | None = None
        for sentence in statements(self.questions[number], self._user, asked.brief):
            text = f"{prompt}\n{sentence}".strip()
            promise = self._promise(text)
            sound = all(self._keeps(text, question) for question in asked.questions)
            lost = set(self._lost(text))
            if sound and _fills(asked.brief, promise.brief) and number not in lost and lost <= before:
                # Of two ways the one that makes the picture fuller is the worse.
                size = len(promise.brief.groups)
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
        """The prompt with one wording exchanged so that it keeps a question and loses no other."""
        before = set(self._lost(prompt))
        if number not in before or len(prompt) > _LONGEST:
            return prompt
        texts = [text for text in exchanges(prompt, self.questions[number]) if text != prompt]
        # A word alone may do, or a word and then a sentence: another count, and a colour that was left out.
        for mended in [*texts, *(self._put_back(text, number) for text in texts)]:
            if mended and not self._stranger(mended, self.questions[number]):
                lost = set(self._lost(mended))
                if number not in lost and lost < before:
                    return mended
        return prompt

    def _from_the_user(self) -> str:
        """The user's prompt, with what is asked and even that does not say, where it can be said."""
        prompt = self.user_prompt
        for number in self._lost(prompt):
            prompt = self._put_back(prompt, number) or prompt
        return prompt


def _alike(group: Group, own: Group) -> bool:
    """Whether both may be the same things: no attribute of one contradicts the other's."""
    if group.noun != own.noun or folded(group.word) != folded(own.word):
        return False
    return all(own.attributes.get(name, value) == value for name, value in group.attributes.items())


def _fills(old: Brief, new: Brief) -> bool:
    """Whether a prompt says all that another one says, and more only where that one says nothing."""
    return all(
        before.noun == after.noun
        and before.count in (None, after.count)
        and before.attributes.items() <= after.attributes.items()
        for before, after in zip(old.groups, new.groups, strict=False)
    )
