"""What changed between two prompts."""

from __future__ import annotations

import pytest

from gems.reporting.templates import Piece, diff_prompts

CASES = [
    ("a red cat", "a red cat"),
    ("a red cat", "a blue cat"),
    ("a red cat", "a red cat on a mat"),
    ("a red cat", "something else altogether, with no word in common"),
    ("", "a cat"),
    ("a cat", ""),
    ("a  b\nc", "a b\n\nc d"),
    (" one two", "one  two "),
    ("x " * 5000, "x " * 2500 + "y " + "x " * 2500),
]


@pytest.mark.parametrize(("before", "after"), CASES)
def test_pieces_make_up_the_new_prompt(before: str, after: str) -> None:
    pieces = diff_prompts(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == after
    assert all(piece.text for piece in pieces)


def test_a_word_is_replaced() -> None:
    assert diff_prompts("a red cat sits", "a blue cat sits") == [
        Piece("same", "a "),
        Piece("gone", "red "),
        Piece("new", "blue "),
        Piece("same", "cat sits"),
    ]


def test_words_are_added_at_the_end() -> None:
    pieces = diff_prompts("a red cat", "a red cat on a mat")
    assert [piece.text for piece in pieces if piece.kind == "new"] == ["on a mat"]
    assert [piece for piece in pieces if piece.kind == "gone"] == []


def test_a_prompt_written_anew_is_shown_whole() -> None:
    other = "quite another text here"
    assert diff_prompts("one two three four", other) == [Piece("new", other)]
    kinds = {piece.kind for piece in diff_prompts("a red cat", "a red cat")}
    assert kinds == {"same"}
