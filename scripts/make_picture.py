"""Draw the README's picture: the rounds of one run side by side, with what the judge said.

python scripts/make_picture.py docs/loop.png
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gems.results import RunResult
from gems.service import Gems
from gems.settings import Settings
from gems.types import Round

PROMPT = 'three red circles above a blue striped square, and the word "GO"'
SEED = 7
WIDTH, MARGIN, LINE = 300, 16, 24
COLOURS = {"yes": "#1a7f37", "no": "#cf222e", "unknown": "#9a6700"}


async def main(target: Path) -> None:
    """Run the loop on the built-in world and write the picture."""
    with tempfile.TemporaryDirectory() as home:
        async with Gems(Settings(home=Path(home))) as gems:
            result = await gems.run(PROMPT, seed=SEED)
            pictures = [
                Image.open(gems.resources.images.path(turn["candidates"][turn["best"]]["image"])).convert("RGB")
                for turn in result.rounds
            ]
            sheet(result, pictures).save(target, optimize=True)


def sheet(result: RunResult, pictures: list[Image.Image]) -> Image.Image:
    """All rounds in a row."""
    font, bold = ImageFont.load_default(14), ImageFont.load_default(18)
    height = 56 + WIDTH + 14 + LINE * len(result.requirements) + MARGIN
    out = Image.new("RGB", ((WIDTH + MARGIN) * len(pictures) + MARGIN, height), "white")
    pen = ImageDraw.Draw(out)
    pen.text((MARGIN, 10), result.prompt, "#57606a", font)
    for index, (turn, picture) in enumerate(zip(result.rounds, pictures, strict=True)):
        left = MARGIN + index * (WIDTH + MARGIN)
        pen.text((left, 30), f"round {turn['number']}: {turn['score']:.0%}", "black", bold)
        out.paste(picture.resize((WIDTH, WIDTH), Image.Resampling.LANCZOS), (left, 56))
        pen.rectangle((left, 56, left + WIDTH, 56 + WIDTH), outline="#d0d7de")
        checklist(pen, result, turn, left, font)
    return out


def checklist(
    pen: ImageDraw.ImageDraw,
    result: RunResult,
    turn: Round,
    left: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """The requirements below a round's picture, by answer."""
    answers = {answer["requirement"]: answer["answer"] for answer in turn["verdicts"][turn["best"]]["answers"]}
    for line, requirement in enumerate(result.requirements):
        top = 56 + WIDTH + 14 + line * LINE
        answer = answers[requirement.id]
        pen.text((left, top), f"{answer:>3}", COLOURS[answer], font)
        pen.text((left + 34, top), requirement.question, "#24292f", font)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
