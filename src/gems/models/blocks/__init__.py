"""The built-in world: an image model and a chat model that need no key, no GPU and no download.

A seeded drawing engine and rules replace real models, so that the whole loop can be run and tested anywhere.
It is not an AI model.

It draws twelve flat shapes in twelve colours, three sizes and four textures, up to nine of a kind; left of,
right of, above, below, inside, on; background colours; short quoted texts in Latin letters and digits. It
makes the errors of real models, see `gems.models.blocks.error_model`.

Its chat model handles every task of `gems.models.schemas`: it chooses skills by their words, enhances prompts
by restating counts, relations or texts, restores requirements that a rewritten prompt lost, and drafts skills
by counting which wordings worked. It answers a skill's own question with an empty object.

It draws nothing else: no people, animals, landscapes, photographs, styles, absolute positions or depth. For
such prompts it draws the parts it understands; the decomposer still asks for the rest, and the judge, which
sees only pixels, answers no. The judge ignores case and does not distinguish I from l or O from 0. Things
that contain others are drawn as large as needed.
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
