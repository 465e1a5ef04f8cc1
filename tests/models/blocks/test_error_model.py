"""Faults come as often as the table says, and less with the right wording."""

import pytest

from gems.models.blocks.error_model import EFFECTS, fault_rate, make_sketch, misspell, seeded_random
from gems.models.blocks.prompt_spec import fold_text, parse_prompt
from gems.models.blocks.reflector import list_wordings, write_sentence

DRAWS = 1500


def share(prompt, fault):
    spec = parse_prompt(prompt)
    return sum(fault in make_sketch(spec, prompt, seed).faults for seed in range(DRAWS)) / DRAWS


@pytest.mark.parametrize(
    ("prompt", "fault", "expected"),
    [
        ("six red circles", "miscount 0", 0.40),
        ("nine red circles", "miscount 0", 0.50),
        ("two red circles", "miscount 0", 0.0),
        ("a red circle above a blue square", "relation 0", 0.25 * 0.95),
        ("a striped circle", "texture 0", 0.24),
        ("a large circle", "size 0", 0.22),
        ("a circle on a red background", "background 0", 0.22),
        ('the word "HELLO"', "text 0", 0.35),
        ("a red circle, a blue square, a green star", "lost 2", 0.10),
        ("a red circle, a blue square", "colour 0", 0.14),
    ],
)
def test_rates(prompt, fault, expected):
    # Four standard deviations of a share over 1500 draws are at most 0.052.
    assert share(prompt, fault) == pytest.approx(expected, abs=0.053)


@pytest.mark.parametrize(
    ("prompt", "fact", "wording", "fault"),
    [
        ("six red circles", ("count", 0), "exactly", "miscount 0"),
        ("a red circle above a blue square", ("relation", 0), "place", "relation 0"),
        ("a striped circle", ("texture", 0), "repeat", "texture 0"),
        ("a large circle", ("size", 0), "exactly", "size 0"),
        ("a circle on a red background", ("background", 0), "important", "background 0"),
        ('the word "HELLO"', ("text", 0), "spelled", "text 0"),
        ("a red circle, a blue square", ("colour", 0), "important", "colour 0"),
        ("a red circle, a blue square, a green star", ("object", 2), "repeat", "lost 2"),
    ],
)
def test_the_right_wording_helps(prompt, fact, wording, fault):
    stressed = f"{prompt}\n{write_sentence(parse_prompt(prompt), fact, wording)}"
    assert share(stressed, fault) < 0.5 * share(prompt, fault)


def test_wordings_differ_in_effect_for_every_fault():
    for fault, effects in EFFECTS.items():
        assert len(set(effects.values())) >= 3, fault
        assert fault_rate(fault, amount=5, wordings=["repeat", "exactly"]) <= fault_rate(fault, amount=5)


def test_every_wording_of_every_fact_is_understood_again():
    prompt = 'six small red circles inside a blue striped square, the word "GO" above the square, pink background'
    spec = parse_prompt(prompt)
    facts = [("object", 0), ("count", 0), ("colour", 0), ("size", 0), ("texture", 1), ("text", 2), ("background", 0)]
    for fact in [*facts, ("relation", 0), ("relation", 1)]:
        for wording in list_wordings(spec, fact):
            again = parse_prompt(f"{prompt}\n{write_sentence(spec, fact, wording)}")
            assert wording in again.emphasis[fact], write_sentence(spec, fact, wording)
            assert again.groups[1:] == spec.groups[1:]
            assert again.relations == spec.relations


def test_misspelt_words_read_differently():
    for seed in range(200):
        for word in ("GO", "I", "Hello World", "a1", "OOO", "!"):
            assert fold_text(misspell(word, seeded_random(seed))) != fold_text(word)
