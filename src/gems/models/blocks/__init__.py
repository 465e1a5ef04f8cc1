"""The built-in world: an image model and a chat model that need no key, no GPU and no download.

It is a seeded drawing engine and a set of rules that play the parts of real models, so that the whole loop
can be run, watched and tested anywhere. It is not an AI model and does not pretend to be one.

What it draws: twelve flat shapes in twelve colours, three sizes and four textures, up to nine of a kind;
left of, right of, above, below, inside, on; background colours; short quoted texts in Latin letters and
digits. Its image model has the weaknesses of real ones, written down in `gems.models.blocks.error_model`.

What its chat model plays: every task of `gems.models.schemas`. It chooses skills by their words; enhances a
prompt where a skill's guidance is about counts, places or text, by stating those once more; finds what a
rewritten prompt lost of the user's and puts it back; and writes skills from lessons by counting which
wordings worked. It knows no facts beyond its shapes: a skill's own question is answered with an empty object.

What it cannot draw: everything else. People, animals, landscapes, photographs, styles, absolute places,
depth. Of such prompts it draws what it understands, its decomposer still asks for the things it knows
nothing of, and its judge, who sees nothing but pixels, answers no and says why. The judge does not tell
upper from lower case, nor I from l or O from 0. Things that hold others are drawn as large as they must be.
"""

from gems.models.blocks.chat_model import BlocksChat
from gems.models.blocks.generator import BlocksGenerator, Rendering, render
from gems.models.blocks.judge import truth
from gems.models.blocks.prompts import BlocksPrompt, load_prompts
from gems.models.blocks.scene import Scene, Thing

__all__ = [
    "BlocksChat",
    "BlocksGenerator",
    "BlocksPrompt",
    "Rendering",
    "Scene",
    "Thing",
    "load_prompts",
    "render",
    "truth",
]
