"""Skills are chosen by clear words only, the best first."""

import pytest

from gems.models.blocks import load_prompts
from gems.models.blocks.chat_model import choose_skills

CATALOGUE = """
text-rendering: Letters in pictures.
spatial-order: Places.
creative-drawing: Draw.
- counting-shapes: Numbers of circles, squares and stars, red, green or blue.
gloomy-moods: Rainy evenings, foggy harbours and lonely lanterns.
"""


@pytest.mark.parametrize(
    ("prompt", "skills"),
    [
        ("a red circle", []),
        ("a red circle, a green square and a blue star", []),
        ("two red circles and three green squares", []),
        ("two red circles, three green squares and one star", ["counting-shapes"]),
        ('the word "GO"', ["text-rendering"]),
        ("spatial puzzle", ["spatial-order"]),
        ("a star left of a heart, a cross above the star, an arrow below the heart", ["spatial-order"]),
        ("lonely lanterns in foggy harbours", ["gloomy-moods"]),
        ("a foggy harbour", []),
        (
            'two stars left of three hearts, six crosses above the stars, five arrows below the hearts, "GO"',
            ["counting-shapes", "text-rendering", "spatial-order"],
        ),
        ("a gloomy counting of spatial text", ["text-rendering", "spatial-order", "counting-shapes"]),
        ("", []),
        ("(none)", []),
    ],
)
def test_what_is_chosen(prompt, skills):
    choice = choose_skills(prompt, CATALOGUE)
    assert choice.skills == skills
    assert all(name in choice.why for name in skills)
    assert choice.why.count(".") == 1


@pytest.mark.parametrize("catalogue", ["", "(none)", "no colon here", ": only a description", "a-star:"])
def test_odd_catalogues_offer_nothing(catalogue):
    assert (
        choose_skills("a star, two hearts, three crosses, one arrow: only a description", catalogue).skills
        == []
    )


def test_a_skill_listed_twice_is_chosen_once():
    assert choose_skills("gloomy", "gloomy-moods: x\ngloomy-moods: y").skills == ["gloomy-moods"]


def test_easy_prompts_choose_none_but_for_their_lettering():
    for case in load_prompts():
        if case.difficulty == "easy":
            expected = ["text-rendering"] if '"' in case.prompt else []
            assert choose_skills(case.prompt, CATALOGUE).skills == expected
