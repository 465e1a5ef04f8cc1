"""A judge that must not be asked."""

from __future__ import annotations

from gems.evals.judge import JudgeQuestion, JudgeReply


class Unasked:
    name = "truth"
    samples = 1

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        raise AssertionError(f"asked: {question.text}")
