"""Find out whether a chat model sees: an obvious picture, a question about it, and what the reply tells."""

from __future__ import annotations

import hashlib
import io
import re
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw

from gems.models.chat.messages import Picture, Question

Sight = Literal["sees", "blind", "doubtful"]
"""What a reply tells: it names the colour, it says that there is no picture to be seen, or something else."""
_WORDS = "What colour is the big square in this picture? Answer in one word."
_SIDE = 224
_RED = re.compile(
    r"\bred(?:dish)?\b|\bcrimson\b|\bscarlet\b|[红紅赤]|レッド|빨간|빨강|\broj[oa]\b|\brouge\b|\brot(?:es)?\b|\bvermelh[oa]\b"
    r"|\bross[oa]\b|красн|أحمر|लाल",
    re.IGNORECASE,
)
_PICTURES = r"(?:images?|pictures?|photos?|visuals?|attachments?|visual (?:content|input)s?)\b"
_SEE = r"(?:see|view|look at|access|open|perceive|process|interpret|analy[sz]e|display|recogni[sz]e|receive)"
_CANNOT = (
    r"(?:can ?not|can'?t|could(?:n'?t| not)|unable to|not able to|incapable of|(?:do|did)(?:n'?t| not)"
    r"|(?:lack|without|no) (?:the )?(?:ability|capability) to|not (?:capable of|equipped to|designed to))"
)
_GIVEN = r"provided|attached|included|uploaded|shared|sent|given"
_BLIND = re.compile(
    rf"{_CANNOT}\b[^.!?]{{0,40}}\b{_SEE}(?:ing)?\b[^.!?]{{0,40}}\b{_PICTURES}"
    rf"|\b(?:no|any|without an?) {_PICTURES}[^.!?]{{0,20}}\b(?:{_GIVEN}|visible|here|to see)"
    rf"|there (?:is|are|was)(?:n'?t| not| no) (?:an?y? )?{_PICTURES}"
    rf"|{_PICTURES}[^.!?]{{0,30}}\b(?:is|was|were|has|have)(?:n'?t| not) (?:been )?(?:{_GIVEN})"
    rf"|\b(?:provide|upload|share|attach|send|describe)\b[^.!?]{{0,20}}\b{_PICTURES}"
    r"|text[- ](?:only|based)[^.!?]{0,20}\b(?:ai|model|assistant|language)"
    r"|(?:无法|不能|看不到|没有|未|無法|沒有)[^。！？]{0,12}(?:图|圖|照片)|(?:图|圖|照片)[^。！？]{0,8}(?:看不到|没有|未)"
    r"|画像[^。！？]{0,20}(?:ません|できない|ない)|이미지[^.!?]{0,20}(?:없|않|못)"
    r"|\b(?:no|não|non|ne)\b[^.!?]{0,30}\b(?:ver|visualizar|vedere|voir|vois|puedo|posso|consigo|peux)\b[^.!?]{0,30}"
    r"\b(?:im[aá]gen|imagem|immagin|image|foto|photo)"
    r"|\b(?:kein|nicht)\w*\b[^.!?]{0,30}\bbild|\bbild\w*\b[^.!?]{0,30}\bnicht\b|\bне\b[^.!?]{0,30}(?:изображ|картин)",
    re.IGNORECASE,
)
"""Ways to say that there is no picture, or that pictures cannot be seen."""
_CANNOT_SEE = re.compile(rf"{_CANNOT}\b[^.!?]{{0,20}}\b{_SEE}\b|看不到|見えません", re.IGNORECASE)


def vision_question(side: int = _SIDE, before: str = "", *, attempt: int = 0, logprobs: bool = False) -> Question:
    """Return the question for the colour of a red square, `side` pixels wide, with a text `before` it. Blocking."""
    data = red_square(side)
    picture = Picture(image=hashlib.sha256(data).hexdigest(), data=data, media_type="image/png")
    words = f"{before}\n{_WORDS}" if before else _WORDS
    return Question(
        task="verify", system="Look at the picture.", parts=(picture, words), attempt=attempt, logprobs=logprobs
    )


def read_sight(reply: str) -> Sight:
    """Return what the reply to `vision_question` tells."""
    text = reply.replace("’", "'")
    if _BLIND.search(text):
        return "blind"
    if _RED.search(text):
        return "sees"
    return "blind" if _CANNOT_SEE.search(text) else "doubtful"


@lru_cache(maxsize=4)
def red_square(side: int = _SIDE) -> bytes:
    """Return PNG bytes of a big red square on white. Blocking."""
    picture = Image.new("RGB", (side, side), "white")
    edge = side // 6
    ImageDraw.Draw(picture).rectangle((edge, edge, side - edge, side - edge), fill=(220, 20, 20))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
