"""What is drawn next: by what worked, from the best image, where the judge saw the fault."""

from __future__ import annotations

from typing import Any

import pytest

from gems.generation import GeneratorCapabilities
from gems.memory.experience import add_counts, count_outcomes, step_outcomes
from gems.nodes.policy import choose_step, is_hopeless
from gems.types import REDRAW, Answer, Requirement, Round, build_answer, build_verdict
from tests.support.scripted_models import OPTIONS

REQUIREMENTS: list[Requirement] = [
    {"id": "r1", "question": "Is there a cat?", "kind": "object", "parents": []},
    {"id": "r2", "question": "Is it red?", "kind": "attribute", "parents": []},
    {"id": "r3", "question": "Does a sign say GO?", "kind": "text", "parents": []},
]
BOX = [100, 200, 300, 400]
DRAWER = GeneratorCapabilities(model="drawer", default_size=(64, 64))
EDITOR = GeneratorCapabilities(model="editor", default_size=(64, 64), editing=True)
PAINTER = GeneratorCapabilities(model="painter", default_size=(64, 64), editing=True, inpainting=True)
ALWAYS: Any = OPTIONS | {"repair": "always"}
AUTO: Any = OPTIONS | {"repair": "auto"}


def judged(number: int, said: str, box: list[int] | None = None, **more: Any) -> Round:
    """A round whose image has the answers `y`, `n` or `u`, a no with a box."""
    values: dict[str, Any] = {"y": "yes", "n": "no", "u": "unknown"}
    answers: list[Answer] = [
        build_answer(item, values[letter], "seen", box=box) for item, letter in zip(REQUIREMENTS, said, strict=True)
    ]
    verdict = build_verdict(f"image{number}", answers)
    turn: Any = {"number": number, "verdicts": [verdict], "best": 0, "score": verdict["score"], "action": "redraw"}
    return turn | more


def chosen(rounds: list[Round], options: Any = ALWAYS, generator: GeneratorCapabilities = EDITOR, earlier: Any = None):
    return choose_step(options, rounds, REQUIREMENTS, generator, earlier or {})


@pytest.mark.parametrize(
    ("options", "generator"),
    [
        (OPTIONS, EDITOR),
        (OPTIONS | {"repair": "never"}, EDITOR),
        (ALWAYS | {"profile": "paper"}, EDITOR),
        (ALWAYS | {"source": "0" * 64}, EDITOR),
        (ALWAYS, DRAWER),
    ],
    ids=["runs of earlier versions", "never", "paper", "edit of a user's image", "generator without editing"],
)
def test_nothing_is_mended_where_it_must_not_be(options: Any, generator: GeneratorCapabilities) -> None:
    assert chosen([judged(1, "yyn")], options, generator) == REDRAW


def test_unknown_answers_are_no_faults() -> None:
    assert chosen([judged(1, "yyu")]) == REDRAW


def test_children_of_a_fault_are_mended_with_it() -> None:
    turn = judged(1, "nyy")
    turn["verdicts"][0]["answers"][2] = build_answer(REQUIREMENTS[2], "no", "makes no sense", source="parent")
    assert chosen([turn])["requirements"] == ["r1"]


def test_best_image_is_mended_not_the_newest() -> None:
    step = chosen([judged(1, "yyn"), judged(2, "ynn")])
    assert step == {"action": "edit", "parent": "image1", "boxes": [], "requirements": ["r3"]}


@pytest.mark.parametrize(("generator", "action"), [(EDITOR, "edit"), (PAINTER, "inpaint")])
def test_place_of_the_fault_is_all_that_may_change(generator: GeneratorCapabilities, action: str) -> None:
    step = chosen([judged(1, "yyn", BOX)], generator=generator)
    assert (step["action"], step["boxes"]) == (action, [BOX])


def test_box_over_everything_is_no_place() -> None:
    assert chosen([judged(1, "yyn", [0, 0, 1000, 990])], generator=PAINTER)["boxes"] == []


def test_place_that_did_not_help_is_doubted() -> None:
    failed = judged(2, "yyn", BOX, action="inpaint", parent="image1", boxes=[BOX], repaired=["r3"])
    step = chosen([judged(1, "yyn", BOX), failed], generator=PAINTER)
    assert (step["action"], step["boxes"]) == ("edit", [])


def test_choice_repeats_with_the_seed_and_varies_with_it() -> None:
    rounds = [judged(1, "ynn")]
    steps = [chosen(rounds, AUTO | {"seed": seed}) for seed in range(40)]
    assert steps == [chosen(rounds, AUTO | {"seed": seed}) for seed in range(40)]
    assert {step["action"] for step in steps} == {"redraw", "edit"}
    assert {step["requirements"][0] for step in steps if step["requirements"]} == {"r2", "r3"}


@pytest.mark.parametrize(
    ("earlier", "action"),
    [
        ({("edit", "text"): (90, 10), ("redraw", "1"): (10, 90)}, "edit"),
        ({("edit", "text"): (1, 99), ("redraw", "1"): (30, 70)}, "redraw"),
    ],
)
def test_choice_follows_what_worked(earlier: Any, action: str) -> None:
    rounds = [judged(1, "yyn")]
    actions = [chosen(rounds, AUTO | {"seed": seed}, earlier=earlier)["action"] for seed in range(50)]
    assert actions == [action] * 50


def outcomes(rounds: list[Round]) -> dict[Any, Any]:
    steps = (step_outcomes(rounds[:n], rounds[n], REQUIREMENTS) for n in range(1, len(rounds)))
    return dict(add_counts(*map(count_outcomes, steps)))


def test_outcomes_count_what_made_the_best_image_better() -> None:
    rounds = [
        judged(1, "ynn"),
        judged(2, "ynn", action="redraw"),
        judged(3, "yyn", action="edit", parent="image1", boxes=[], repaired=["r2"]),
        judged(4, "nyn", action="edit", parent="image3", boxes=[], repaired=["r3"]),
    ]
    assert outcomes(rounds) == {("redraw", "2"): (0, 1), ("edit", "attribute"): (1, 0), ("edit", "text"): (0, 1)}


def test_rounds_of_earlier_versions_count_as_drawn_anew() -> None:
    old = judged(2, "yyy")
    del old["action"]
    assert outcomes([judged(1, "nnn"), old]) == {("redraw", "3"): (1, 0)}


def test_what_was_tried_least_is_mended_first_in_any_image_that_is_as_good() -> None:
    tried = judged(3, "ynn", action="edit", parent="image1", boxes=[], repaired=["r2"])
    rounds = [judged(1, "yyn"), judged(2, "yny"), judged(3, "yyn", action="edit", parent="image1", repaired=["r3"])]
    always: Any = AUTO | {"repair": "always"}
    found = [choose_step(always | {"seed": seed}, rounds, REQUIREMENTS, EDITOR, {}) for seed in range(20)]
    assert {(step["parent"], *step["requirements"]) for step in found} == {("image2", "r2")}
    # What a person took is not left for another image.
    taken = [rounds[0] | {"taken": True}, *rounds[1:]]
    step = choose_step(always, taken, REQUIREMENTS, EDITOR, {})
    assert (step["parent"], step["requirements"]) == ("image1", ["r3"])
    # Each fault is tried once before one is tried again.
    step = choose_step(always, [judged(1, "ynn"), judged(2, "nnn"), tried], REQUIREMENTS, EDITOR, {})
    assert (step["parent"], step["requirements"]) == ("image1", ["r3"])


HOPING: Any = AUTO | {"early_stop": True}


def given_up(*said: str, options: Any = HOPING, generator: GeneratorCapabilities = DRAWER, earlier: Any = None) -> bool:
    rounds = [judged(number, each) for number, each in enumerate(said, 1)]
    for turn in rounds[1:] if generator is not DRAWER else []:
        turn |= {"action": "edit", "parent": "image1", "boxes": [], "repaired": ["r3"]}  # type: ignore[typeddict-item]
    return is_hopeless(options, rounds, REQUIREMENTS, generator, earlier or {})


@pytest.mark.parametrize(("unmet", "rounds"), [("yyn", 6), ("ynn", 3), ("nnn", 3), ("nun", 3)])
def test_the_more_is_unmet_the_sooner_a_run_gives_up(unmet: str, rounds: int) -> None:
    assert [given_up(*[unmet] * count) for count in range(1, 8)] == [count >= rounds for count in range(1, 8)]


def test_nothing_is_given_up_after_progress() -> None:
    assert not given_up("nnn", "nnn", "ynn")
    assert given_up("nnn", "nnn", "ynn", "ynn", "ynn")


@pytest.mark.parametrize("options", [AUTO, OPTIONS, HOPING | {"early_stop": False}])
def test_nothing_is_given_up_where_the_rounds_were_asked_for(options: Any) -> None:
    assert not given_up(*["nnn"] * 7, options=options)


def test_success_of_earlier_runs_gives_hope_for_mending() -> None:
    worked, failed = {("edit", "text"): (80, 20)}, {("edit", "text"): (0, 100)}
    mending = HOPING | {"repair": "always"}

    def lasted(earlier: Any) -> int:
        given = {"options": mending, "generator": EDITOR, "earlier": earlier}
        return next(count for count in range(1, 40) if given_up(*["yyn"] * count, **given))

    assert lasted(worked) > lasted({}) > lasted(failed)


def test_what_was_not_tried_yet_gives_hope() -> None:
    assert not given_up(*["yyn"] * 20, generator=EDITOR)


def test_other_runs_do_not_decide_whether_drawing_anew_has_hope() -> None:
    assert not given_up("yyn", "yyn", earlier={("redraw", "1"): (0, 500)})


def test_counts_are_added() -> None:
    assert add_counts({("edit", "text"): (1, 2)}, {("edit", "text"): (3, 4), ("redraw", "1"): (0, 1)}) == {
        ("edit", "text"): (4, 6),
        ("redraw", "1"): (0, 1),
    }
