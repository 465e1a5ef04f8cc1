"""Tell what of a store has to do with a text, by how alike unrelated texts are to the same embedder."""

# ruff: noqa: RUF001 - prompts in several scripts

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from langgraph.store.base import BaseStore
from numpy.typing import NDArray

from gems.memory.experience import indexed_text

# Numbers, colours, sizes and places stand in at least two of them.
UNRELATED: tuple[str, ...] = (
    "a grandfather clock in a narrow hallway, its pendulum to the left",
    "two green parrots on a mossy branch",
    "a photo of an open laptop on a messy desk",
    "three white bowls of ripe cherries on a white background",
    "a tall lighthouse in heavy fog, a boat in the background",
    "a knight in rusty armour on a small black horse",
    "a vinyl record spinning on a brown turntable",
    "four blue hot-air balloons above a vineyard",
    "five yellow tulips in front of a window",
    "a close-up photo of a black chess king between two white pawns",
    "a large stained glass window with a red and blue saint",
    "six dancers in pink and purple, seen from behind",
    "a small cactus in an orange pot next to a violin",
    "a picture of a child who flies a yellow kite over a field",
    "a grey stone bridge with an old man standing on it",
    "one purple dragon curled around a tall tower at night",
    "a pair of brown boots by an open door in the morning light",
    "a whale beside a large iceberg under a grey sky at sunset",
    "a robot repairing a tiny wristwatch with its left hand",
    "a marble statue without arms in the corner of a dark room, cyan light on it",
    "a campfire in the centre of a dark forest at night, three tents around it",
    "a volcano in the middle of an island, seen from above",
    "an orange goalkeeper diving to the right for the ball",
    'a logo for a bicycle workshop with the word "RIDE" on it',
    'a cup that reads "HELLO" in big red letters below its rim',
    "a pink flamingo and a green crocodile on opposite sides of a river",
    "a spotted mushroom under a fern, soft light from the right",
    "a striped sofa against a bright wall, with a round mirror above it",
    "an illustration of seven silver spoons inside a wooden box",
    "a bright circus tent behind a fence, people walking towards it",
    "a young woman holding a long umbrella in the rain",
    "a wooden spoon, a round cheese and a golden coin on the left side of a table",
    "eight old books stacked on top of each other, a striped bookmark in one",
    "a spotted leopard sleeping near a tree, a cyan bird on the right",
    "a watercolour painting of a beautiful harbour at sunrise, cinematic light",
    "a beautiful, cinematic painting of a shoemaker, a little dog at his feet",
    "a little girl pointing at four snails, their shells brown",
    "five silver forks and six knives beside a big plate, the words of a menu on it",
    "seven huge pumpkins and eight tiny ones at a market stall",
    "nine bees above a hive, a sign with the text of a warning near it",
    "a huge gold ring between nine candles, in gold and magenta",
    "a long train of magenta waggons at noon, far away",
    "a pale young woman sitting in the front row, her bag on her lap, his coat next to her",
    "ten new bricks along the bottom of a wall, another ten on top, each of a different colour",
    "some pale grey gloves, inside out, next to some golden keys that are not for any door",
    "many umbrellas in every colour, the same shape and all open, a young vendor in front of them",
    "a pair of geese standing in the middle of a road, no other animal, the day before snow",
    "a new bridge across a bay, cars going over it, some into a tunnel, a train through the middle",
    "a drawing of a plumber climbing up and down ladders, which stand against a gray roof",
    "a scene at a court, people who wear wigs, all of them facing toward the centre, gold on every collar",
    "a gray mule outside a gate, without a rider, against a plain wall, they who own it out of view",
    "a scene in colour: nurses wearing masks, each holding a pale cup, one by one through a door",
    "a group of divers jumping off a pier into a bay, a view across the bay, a plain title in the corner",
    "a drawing in color of a beetle, close up, with a title in capital letters at the top, no shadow below",
    "an empty bath, towels hung over its side, soap put onto the corner, down at the bottom many hairpins",
    "the same actor in every mirror, sitting and standing, he in a scarf onto which he has sewn his name",
    "a priest holding up a lamp by day, not by night, before an altar; below, a group of benches along each side",
    "a hand with a ring and no other, a pair of gloves off, another shape in color cut out of felt, wearing thin",
    "a cellar without a window, outside of which they stack ten pots, inside, toward the back, which are all the same",
    "eine rote Lampe neben einem Fenster",
    "ein Junge mit einer blauen Mütze und einem Ball auf der Wiese",
    "zwei Vögel auf einem Dach, im Hintergrund ein Berg",
    'eine Tasse mit dem Wort "MOIN" auf einem Tisch neben der Tür',
    "un chat noir sur une chaise dans la cuisine",
    "une femme avec un parapluie rouge devant la gare",
    "deux bateaux dans le port avec une lune au-dessus de la mer",
    "un perro negro en una playa con una pelota roja",
    "una taza con dos flores en la mesa de la cocina",
    "dos niños en un bosque, con una cometa y un sombrero",
    "一只白色的茶壶放在木桌上",
    "两个孩子在公园里放风筝，一只手里拿着红色的伞",
    "一座红色的桥在湖上，背景是山",
    "三个白色的碗和两个蓝色的盘子放在一个木架上，背景是一座塔",
    "窓のそばにある赤い花瓶",
    "雨の中の小さな駅と二人の人",
    "красный трамвай на улице в дождь",
    "старый дом на берегу реки",
)
"""Prompts that have nothing to do with each other, and share only words in which any prompt is said."""

_QUESTIONS = (
    "Does this image show: {}?",
    "Is there {}?",
    "Are there exactly {}?",
    "Is it true that the picture shows {}?",
    "Do all of these appear, {}, and can the text be read that says so?",
)
_SPREAD = 3.0
"""How many standard deviations above unrelated texts a related one is at least."""
_WORD = re.compile(r"\w+")
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SIBILANTS = ("ses", "xes", "zes", "hes")
_SHORTEST_PLURAL = 4


@dataclass(frozen=True, slots=True)
class Relevance:
    """What a hit of a search needs to have to do with the query.

    Attributes:
        similarity: Its least similarity to the query.
        words: What it needs one of, for an embedder that knows nothing but words; None for any other.
    """

    similarity: float = -1.0
    words: frozenset[str] | None = None

    def admits(self, similarity: float, text: str) -> bool:
        """Return whether a text of this similarity has to do with the query."""
        if self.words is not None:
            return not self.words.isdisjoint(subject_words(text))
        return similarity >= self.similarity


@runtime_checkable
class CalibratedStore(Protocol):
    """A store that knows its embedder."""

    async def relevances(self, queries: Sequence[str]) -> list[Relevance]:
        """Return what hits need to have to do with each of the queries."""


_CALIBRATED: WeakKeyDictionary[Any, NDArray[np.float32]] = WeakKeyDictionary()


async def relevances(store: BaseStore, queries: Sequence[str]) -> list[Relevance]:
    """Return what hits of a store need to have to do with each of the queries; nothing for one without an index.

    Raises what the embedder raises.
    """
    if isinstance(store, CalibratedStore):
        return await store.relevances(queries)
    embeddings = getattr(store, "embeddings", None)
    if embeddings is None:
        return [Relevance()] * len(queries)
    if embeddings not in _CALIBRATED:
        _CALIBRATED[embeddings] = _unit_rows(await embeddings.aembed_documents(unrelated_texts()))
    vectors = _unit_rows(await embeddings.aembed_documents(list(queries)))
    return [relevance_by_likeness(vector, _CALIBRATED[embeddings]) for vector in vectors]


def unrelated_texts() -> list[str]:
    """Return the unrelated prompts in the form in which experiences are indexed."""
    asked = zip(UNRELATED, cycle(_QUESTIONS), strict=False)
    return [indexed_text(prompt, [question.format(prompt)]) for prompt, question in asked]


def relevance_by_likeness(query: NDArray[np.float32], unrelated: NDArray[np.float32]) -> Relevance:
    """Return what hits need by how alike the query is to unrelated texts; all are unit vectors, `unrelated` of rows.

    The mean and the standard deviation are of this embedder and this query, so the same rule fits all. Scores are
    normalised in the same way where voices are recognised (test normalisation, Auckenthaler et al. 2000).
    """
    alike = unrelated @ query
    return Relevance(similarity=float(alike.mean() + _SPREAD * alike.std()))


def relevance_by_words(query: str) -> Relevance:
    """Return what hits need where only words are compared: one that says what the query is about."""
    return Relevance(words=frozenset(subject_words(query)))


def subject_words(text: str) -> set[str]:
    """Return the words that say what a text is about: those that no two unrelated prompts share."""
    return _words_of(text) - _common_words()


@lru_cache(maxsize=1)
def _common_words() -> frozenset[str]:
    known = Counter(word for text in unrelated_texts() for word in _words_of(text))
    return frozenset(word for word, texts in known.items() if texts > 1)


def _words_of(text: str) -> set[str]:
    """Return the words of a text as singulars, and every two neighbouring signs of scripts without spaces."""
    found: set[str] = set()
    for word in _WORD.findall(text.lower()):
        if _CJK.search(word):
            found |= {word[start : start + 2] for start in range(max(1, len(word) - 1))}
        elif len(word) > 1:
            found.add(_singular(word))
    return found


def _singular(word: str) -> str:
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith("ss"):
        return word
    return word[:-2] if word.endswith(_SIBILANTS) else word[:-1]


def _unit_rows(vectors: Any) -> NDArray[np.float32]:
    rows = np.asarray(vectors, dtype=np.float32)
    lengths: NDArray[np.float32] = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.divide(rows, lengths)
