"""The subgraph of the skill $name. It runs only from places that are trusted."""

import io

from langgraph.graph import END, START
from PIL import Image

from gems.skills.authoring import VerifierAnswer

WHITE = 240


def build(context):
    """The skill's graph, not compiled. gems.skills.authoring says what it is given and hands back."""

    async def require(state, work):
        """What is checked beyond the user's prompt, and how images are drawn."""
        return {
            "extra_requirements": [{"question": "Is the background white?", "kind": "attribute"}],
            "drawing": {"negative_prompt": "shadows"},
        }

    graph = context.graph()
    graph.add_node("load", context.load)
    graph.add_node("enhance", context.enhance)
    graph.add_node("keep", context.keep)
    graph.add_node("require", context.node(require))
    graph.add_edge(START, "load")
    graph.add_edge("load", "enhance")
    graph.add_edge("enhance", "keep")
    graph.add_edge("keep", "require")
    graph.add_edge("require", END)
    return graph


class WhiteBackground:
    """Looks at the corners of the picture, which says more than a model's glance."""

    def takes(self, requirement):
        return requirement["question"] == "Is the background white?"

    async def verify(self, request):
        with Image.open(io.BytesIO(request.image)) as picture:
            grey = picture.convert("L")
        right, bottom = grey.width - 1, grey.height - 1
        corners = [grey.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]
        answer = VerifierAnswer(
            answer="yes" if min(corners) >= WHITE else "no",
            evidence=f"the darkest corner has a brightness of {min(corners)} of 255",
        )
        return {requirement["id"]: answer for requirement in request.requirements}


def verifiers(context):
    """Tools that answer certain requirements better than a general model."""
    return [WhiteBackground()]
