"""Probabilities of checklists: asked for over HTTP, kept in the ledger, and deciding between equal images only."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from gems.generation import ImageRequest
from gems.nodes.checklist import ask_checklist, pictures_to_judge
from gems.types import Requirement, Role
from tests.support.chat_clients import client_of
from tests.support.chat_script import Script, opened, task_of, tasks
from tests.support.scripted_models import Desk
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture
from tests.support.stub.responses import Answer

QUESTIONS = ("Is there a cat?", "Is it red?", "Is it asleep?")


def grey_picture(request: ImageRequest) -> bytes:
    """A darker picture for the first of the seeds, and a lighter one for the second."""
    out = io.BytesIO()
    shade = 40 if request.seed == 7 else 200
    Image.new("RGB", (request.width, request.height), (shade,) * 3).save(out, "PNG")
    return out.getvalue()


def shade_of(messages: list[dict[str, Any]]) -> int:
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened_picture:
        return int(opened_picture.convert("L").getpixel((5, 5)))  # type: ignore[arg-type]


class Doubting(Script):
    """Finds one of three requirements met in every image, in dark ones and light ones as surely as told."""

    def __init__(self, dark: float, light: float, said: tuple[str, ...] = ("yes", "no", "no")) -> None:
        super().__init__()
        self.sure, self.said = (dark, light), said

    def __call__(self, messages: list[dict[str, Any]]) -> Answer:
        answer = super().__call__(messages)
        if task_of({"messages": messages}) != "checklist":
            return answer
        return replace(answer, sure=self.sure[shade_of(messages) > 100])

    def _decompose(self, content: str) -> Any:
        return {"requirements": [{"question": text, "kind": "object", "parents": []} for text in QUESTIONS]}

    def _checklist(self, content: str) -> Any:
        numbered = enumerate(self.said, 1)
        return {"answers": [{"number": n, "evidence": "it seems so", "answer": word} for n, word in numbered]}


async def run(stub: StubServer, home: Path, **options: Any) -> Any:
    async with opened(stub, home, generator="http") as gems:
        given = {"seed": 7, "candidates": 2, "max_rounds": 1, "size": "64x64"} | options
        result = await gems.run("a cat", **given)
        assert (await gems.show(result.run_id)).rounds == result.rounds
    return result


def share(sure: float) -> float:
    return sure / (sure + 0.8 * (1 - sure))


@pytest.mark.parametrize(("dark", "light", "best"), [(0.6, 0.9, 1), (0.9, 0.6, 0), (0.7, 0.7, 0)])
async def test_of_images_that_meet_as_much_the_likelier_one_is_chosen(
    dark: float, light: float, best: int, tmp_path: Path
) -> None:
    with StubServer(chat=Doubting(dark, light), images=grey_picture, logprobs=True) as stub:
        result = await run(stub, tmp_path)
        asked = [call.body for call in stub.calls("chat") if task_of(call.body) == "checklist"]
    (turn,) = result.rounds
    assert [verdict["score"] for verdict in turn["verdicts"]] == pytest.approx([1 / 3, 1 / 3])
    for verdict, sure in zip(turn["verdicts"], (dark, light), strict=True):
        found = [answer["probability"] for answer in verdict["answers"]]
        assert found == pytest.approx([share(sure), 1 - share(sure), 1 - share(sure)])
        assert verdict["likely"] == pytest.approx(share(sure) / 3, abs=1e-4)
    assert turn["best"] == best
    assert result.requirements[0].probability == pytest.approx(share((dark, light)[best]))
    assert {(body["logprobs"], body["top_logprobs"], body["response_format"]["type"]) for body in asked} == {
        (True, 5, "json_schema")
    }


async def test_a_probability_passes_nothing(tmp_path: Path) -> None:
    """What is met surely is no more than what is met, and a no is a no however unsure it is."""
    with StubServer(chat=Doubting(0.51, 0.999), images=grey_picture, logprobs=True) as stub:
        result = await run(stub, tmp_path)
    assert (result.stop_reason, result.score) == ("max_rounds", pytest.approx(1 / 3))
    assert [answer["answer"] for answer in result.rounds[0]["verdicts"][0]["answers"]] == ["yes", "no", "no"]


async def test_without_probabilities_the_first_one_is_chosen(tmp_path: Path) -> None:
    with StubServer(chat=Doubting(0.6, 0.9), images=grey_picture, logprobs=True) as stub:
        stub.fault(Fault("unknown_parameter", text="logprobs"))
        result = await run(stub, tmp_path, candidates=1, max_rounds=3)
        asked = ["logprobs" in call.body for call in stub.calls("chat") if task_of(call.body) == "checklist"]
        assert asked.count(True) == 1, "refused once"
        assert len(asked) == tasks(stub).count("checklist") == 1 + 3
    assert [verdict.get("likely") for turn in result.rounds for verdict in turn["verdicts"]] == [None] * 3
    assert result.requirements[0].probability is None
    assert result.best_round == 1


async def test_the_papers_calls_stay_as_they_were(tmp_path: Path) -> None:
    with StubServer(chat=Doubting(0.6, 0.9), images=grey_picture, logprobs=True) as stub:
        result = await run(stub, tmp_path, profile="paper", candidates=1)
        asked = [call.body for call in stub.calls("chat") if task_of(call.body) == "verify"]
        assert "checklist" not in tasks(stub)
    assert {body["top_logprobs"] for body in asked} == {20}
    assert "likely" not in result.rounds[0]["verdicts"][0]


async def test_later_looks_at_a_list_calibrate_its_probabilities(tmp_path: Path) -> None:
    with StubServer(chat=Doubting(0.7, 0.7, ("yes", "yes", "yes")), images=grey_picture, logprobs=True) as stub:
        async with opened(stub, tmp_path, generator="http") as gems:
            result = await gems.run("a cat", seed=7, max_rounds=1, size="64x64")
            counted = (await gems.memory.stats()).probabilities
    (verdict,) = result.rounds[0]["verdicts"]
    assert (result.stop_reason, {answer["source"] for answer in verdict["answers"]}) == ("passed", {"confirmation"})
    for answer in verdict["answers"]:
        assert answer["rechecks"] == [{"probability": pytest.approx(share(0.7)), "met": True}]
    assert counted == [{"least": 0.5, "most": 0.9, "looks": 3, "confirmed": 3}]


async def test_probabilities_are_kept_with_the_answer(desk: Desk) -> None:
    """A run that goes on does not ask again, and knows as much as before."""
    listed: list[Requirement] = [
        {"id": f"r{n}", "question": text, "kind": "object", "parents": []} for n, text in enumerate(QUESTIONS, 1)
    ]
    picture = flat_picture(ImageRequest(prompt="a", seed=1, width=64, height=64))
    image = await desk.context.images.put(picture)
    said = [(1, "yes"), (2, "no"), (2, "yes"), (3, "unknown"), (1, "yes")]
    answers = ", ".join(f'{{"number": {n}, "answer": "{word}"}}' for n, word in said)
    with StubServer(chat=lambda _: Answer(f'{{"answers": [{answers}]}}', sure=0.8), logprobs=True) as stub:
        client = client_of(stub)
        work = desk.work()
        work.context = replace(desk.context, chats=dict.fromkeys(get_args(Role), client))
        found = []
        for _ in range(2):
            pictures = await pictures_to_judge(image, work)
            found.append((await ask_checklist(pictures, listed, work, (0, 1))).answers)
        assert tasks(stub).count("checklist") == 1
        await client.aclose()
    assert found[0] == found[1]
    first, second, third = found[0]
    assert (first["answer"], first["probability"]) == ("yes", pytest.approx(share(0.8)))
    # What contradicts itself, or could not be told, has no probability.
    assert [(answer["answer"], answer["probability"]) for answer in (second, third)] == [("unknown", None)] * 2
