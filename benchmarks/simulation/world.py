"""The simulated world: prompts with hidden truth, a generator with luck, a judge that errs.

- A prompt has 3 to 10 requirements. Each has a hidden easiness, in log odds, drawn from a normal
  distribution: most are met at once, a few hardly ever.
- An image meets a requirement with the probability that its easiness and the prompt's wording give. Each time
  the reflector states a requirement more explicitly its log odds rise, three times at most; each time it does
  so for one, each other one may lose as much by chance, as happens in prompts that grow.
- The judge's answer is turned round with a probability of its own for what is met (a false no) and for what
  is not (a false yes). Asked again about the same image, it repeats its first idea with probability
  `correlation`, right or wrong, and is otherwise as likely to err as before.

Everything is a function of seeds: the same image under the same judge looks the same to every policy, so that
policies are compared on the same luck. The wording stands in the prompt itself, as `picture 7: 0 2 -1`: how
often each requirement was stated more explicitly, less what it lost.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

_LEVEL = re.compile(r"-?\d+")


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
    """

    fewest: int = 3
    most: int = 10
    easiness: float = 4.5
    spread: float = 4.5
    gain: float = 0.6
    heeded: int = 3
    harm: float = 0.06


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
        """What the decomposer asks."""
        return [f"Is requirement {index} met?" for index in range(len(self.easiness))]

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
            odds = easiness + nature.gain * min(level, nature.heeded)
            met.append(chance("luck", self.number, seed, index) < 1 / (1 + math.exp(-odds)))
        return tuple(met)

    def refined(self, prompt: str, failed: Sequence[int]) -> str:
        """The next prompt: what failed stated more explicitly, at some cost to the rest."""
        levels = levels_of(prompt)
        for cause in failed:
            levels[cause] += 1
            for other in range(len(levels)):
                if other not in failed and chance("harm", prompt, cause, other) < self.nature.harm:
                    levels[other] -= 1
        return f"picture {self.number}: {' '.join(map(str, levels))}"


def painting(number: int, nature: Nature = NATURE) -> Painting:
    """The prompt of that number."""
    rng = random.Random(f"painting {number}")
    count = rng.randint(nature.fewest, nature.most)
    easiness = tuple(rng.gauss(nature.easiness, nature.spread) for _ in range(count))
    return Painting(number, easiness, nature)


def levels_of(prompt: str) -> list[int]:
    """How explicitly each requirement is stated."""
    return [int(level) for level in _LEVEL.findall(prompt.partition(":")[2])]


def said(met: bool, errors: Errors, image: str, index: int, call: int) -> bool:
    """What the judge says about one requirement of one image when asked for the `call`-th time, from 0."""
    repeats = chance("repeat", image, index, call) < errors.correlation
    idea = chance("idea", image, index) if repeats else chance("idea", image, index, call)
    return met == (idea >= (errors.false_no if met else errors.false_yes))


def chance(*what: object) -> float:
    """A number in [0, 1) that looks drawn by chance and is the same each time."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
