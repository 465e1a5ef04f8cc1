"""The simulated world: prompts with hidden truth, a generator with luck, a judge that errs.

- A prompt has 3 to 10 requirements. Each has a hidden easiness, in log odds, drawn from a normal
  distribution: most are met at once, a few hardly ever.
- An image meets a requirement with the probability that its easiness and the prompt's wording give. Each time
  the reflector states a requirement more explicitly its log odds rise, three times at most; each time it does
  so for one, each other one may lose as much by chance, as happens in prompts that grow.
- The judge's answer is turned round with a probability of its own for what is met (a false no) and for what
  is not (a false yes). Asked again about the same image, it repeats its first idea with probability
  `correlation`, right or wrong, and is otherwise as likely to err as before.

- Each time a prompt is rewritten, a clause may get lost: it is then met hardly ever, unless the user's own words
  stand in the prompt as well, or until the reflector states it again.
- The decomposer may leave a question out, which the question for completeness finds.

Everything is a function of seeds: the same image under the same judge looks the same to every policy, so that
policies are compared on the same luck. The wording stands in the prompt itself, as `picture 7: 0 2 -1 x`: how
often each requirement was stated more explicitly, less what it lost; `x` for a lost clause. Of several lines the last
says how, and what it lost the others still say.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

_LEVEL = re.compile(r"-?\d+|x")
_LOST = -3.0
"""Log odds that a requirement is met which the prompt does not mention."""


@dataclass(frozen=True, slots=True)
class Nature:
    """The numbers of the world.

    They were chosen so that with a judge that errs 5 % of the time a single image and the paper's loop meet
    everything about as often as the paper scores for Z-Image-Turbo on GenEval2: 31.0 and, by the loop alone,
    52.4. Nothing else of it was measured on a model.

    Attributes:
        fewest: Requirements of a prompt.
        most: Requirements of a prompt.
        easiness: Mean log odds that a requirement is met by the user's own wording.
        spread: Standard deviation of these.
        gain: Log odds that a more explicit wording adds.
        heeded: How often that helps.
        harm: Probability that a requirement loses that much where another one is stated more explicitly.
        lost: Probability that a rewritten prompt loses the clause of a requirement that has not failed.
        unasked: Probability that the decomposer does not ask about a requirement.
    """

    fewest: int = 3
    most: int = 10
    easiness: float = 4.5
    spread: float = 4.5
    gain: float = 0.6
    heeded: int = 3
    harm: float = 0.06
    lost: float = 0.0
    unasked: float = 0.0


@dataclass(frozen=True, slots=True)
class Errors:
    """How a judge errs.

    Attributes:
        false_yes: Probability of yes about a requirement that is not met.
        false_no: Probability of no about one that is met.
        correlation: Probability that an answer about the same image repeats the judge's first idea of it.
    """

    false_yes: float = 0.0
    false_no: float = 0.0
    correlation: float = 0.0


@dataclass(frozen=True, slots=True)
class Editor:
    """How an editor changes an image, and how well the judge's boxes tell it where.

    Attributes:
        fixes: Probability that it mends the named fault.
        breaks: Probability that it breaks something else that was met, if there is anything.
        inside: Probability that what it breaks is inside the box; the rest is undone where the image is locked.
        noisy: Probability that a box cuts the fault, so that a locked mend does not help.
        misplaced: Probability that a box is somewhere else, with the same effect.
    """

    fixes: float
    breaks: float = 0.31
    inside: float = 0.5
    noisy: float = 0.0
    misplaced: float = 0.0


NATURE = Nature()


@dataclass(frozen=True, slots=True)
class Painting:
    """What is hidden about one prompt."""

    number: int
    easiness: tuple[float, ...]
    nature: Nature

    @property
    def prompt(self) -> str:
        """The user's prompt."""
        return f"picture {self.number}: {' '.join('0' for _ in self.easiness)}"

    @property
    def questions(self) -> list[str]:
        """What there is to ask."""
        return [f"Is requirement {index} met?" for index in range(len(self.easiness))]

    @property
    def asked(self) -> list[str]:
        """What the decomposer asks; at least one question."""
        missed = self.nature.unasked
        return [q for n, q in enumerate(self.questions) if not n or chance("asked", self.number, n) >= missed]

    def shown(self, image: str, editor: Editor | None = None) -> tuple[bool, ...]:
        """What an image meets by its name: `prompt|seed`, or `parent>index seed` and `locked` for a changed one."""
        parent, changed, edit = image.rpartition(">")
        if not changed or editor is None:
            prompt, _, seed = image.rpartition("|")
            return self.truth(prompt, int(seed))
        index, seed, *locked = edit.split()
        met, place = list(self.shown(parent, editor)), (self.number, parent, index)
        others = [other for other, is_met in enumerate(met) if is_met and other != int(index)]
        if chance("fixes", *place, seed) < editor.fixes and not (
            locked and (chance("noisy", *place) < editor.noisy or chance("misplaced", *place) < editor.misplaced)
        ):
            met[int(index)] = True
        stays = locked and chance("inside", *place, seed) >= editor.inside
        if others and not stays and chance("breaks", *place, seed) < editor.breaks:
            met[others[int(chance("which", *place, seed) * len(others))]] = False
        return tuple(met)

    def truth(self, prompt: str, seed: int) -> tuple[bool, ...]:
        """What an image of this prompt and seed meets."""
        nature, levels = self.nature, levels_of(prompt)
        met = []
        for index, (easiness, level) in enumerate(zip(self.easiness, levels, strict=True)):
            odds = _LOST if level is None else easiness + nature.gain * min(level, nature.heeded)
            met.append(chance("luck", self.number, seed, index) < 1 / (1 + math.exp(-odds)))
        return tuple(met)

    def refined(self, prompt: str, failed: Sequence[int]) -> str:
        """The next prompt: what failed stated more explicitly, at some cost to the rest."""
        levels, nature = levels_of(prompt), self.nature
        for cause in failed:
            levels[cause] = (levels[cause] or 0) + 1
            for other, level in enumerate(levels):
                if other not in failed and level is not None and chance("harm", prompt, cause, other) < nature.harm:
                    levels[other] = level - 1
        for other in range(len(levels)):
            if other not in failed and chance("lost", prompt, other) < nature.lost:
                levels[other] = None
        return f"picture {self.number}: {' '.join('x' if level is None else str(level) for level in levels)}"


def painting(number: int, nature: Nature = NATURE) -> Painting:
    """The prompt of that number."""
    rng = random.Random(f"painting {number}")
    count = rng.randint(nature.fewest, nature.most)
    easiness = tuple(rng.gauss(nature.easiness, nature.spread) for _ in range(count))
    return Painting(number, easiness, nature)


def levels_of(prompt: str) -> list[int | None]:
    """How explicitly each requirement is stated; None for what is not."""
    lines = [_LEVEL.findall(line.partition(":")[2]) for line in prompt.splitlines()]
    said = ([int(level) for level in each if level != "x"] for each in zip(*lines, strict=True))
    return [levels[-1] if levels else None for levels in said]


def said(met: bool, errors: Errors, image: str, index: int, call: int) -> bool:
    """What the judge says about one requirement of one image when asked for the `call`-th time, from 0."""
    repeats = chance("repeat", image, index, call) < errors.correlation
    idea = chance("idea", image, index) if repeats else chance("idea", image, index, call)
    return met == (idea >= (errors.false_no if met else errors.false_yes))


def chance(*what: object) -> float:
    """A number in [0, 1) that looks drawn by chance and is the same each time."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
