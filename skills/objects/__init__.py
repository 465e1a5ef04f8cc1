"""Objects in images: which ones a question asks for, how many and where, and what a detector says of it."""

from gems.skills.objects.questions import Counted, Placed, Related, find_phrases, parse_question
from gems.skills.objects.verifier import ObjectVerifier

__all__ = ["Counted", "ObjectVerifier", "Placed", "Related", "find_phrases", "parse_question"]
