"""Find texts that a Chinese prompt names without quotation marks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gems.skills.lettering.found import BLANK, NamedText

_CHINESE_STOP = rf"，。；！？、,.;!?\n（）()《》「」『』“”\"{BLANK}"
_CHINESE_VERBS = (
    r"(?:(?:上面|上|清晰地|醒目地)?(?:写着|写有|写上|印着|印有|刻着|刻有|题着|题有|标着|标有|标注着|绣着|绣有|画着文字)"
    r"|(?:文字|标题|内容|字样|标语|口号|店名|书名|文案)(?:内容)?(?:为|是|：|:)|题为)"
)
_CHINESE_BEARER = (
    r"(?:牌|招牌|灯笼|海报|横幅|条幅|标语|衫|恤|衣服|杯|书|旗|纸|木|店|墙|板|蛋糕|盒|布|标志|卡|瓶|袋|门|石|屏|气球|封面"
    r"|对联|春联|匾|广告|霓虹灯|帽|包|碑|盘|伞|贴纸|信封|标签)"
)
_CHINESE_CUE = re.compile(rf"{_CHINESE_VERBS}\s*[:：]?\s*(?P<text>[^{_CHINESE_STOP}]+)")
_CHINESE_CHARACTERS = re.compile(
    rf"(?:带有|带着|含有|显示着?|有|有着|和|是)(?P<text>[^{_CHINESE_STOP}的]{{1,16}}?)(?:的)?字样"
)
_CHINESE_TAIL = re.compile(
    rf"(?:字样|(?:这|几|一|两|二|三|四|五|六|七|八|九|十|\d)+个(?:大|红|黑|金|白|汉)?字|的文字|的(?=[^的]{{0,8}}{_CHINESE_BEARER})"
    r"|(?:，|并|并且|而|旁边|背景|的旁边|挂在|放在|站在|位于)).*$"
)
_CHINESE_NO_TEXT = re.compile(
    r"(?:作业|信|日记|代码|书法|毛笔字|字|东西|论文|诗|什么|文字|英文|中文|汉字)?(?:的.*)?$"
)


def find_chinese(prompt: str) -> Iterator[NamedText]:
    """Yield the texts after 写着, 印着, 文字为 and the like, and those before 字样."""
    taken: list[tuple[int, int]] = []
    for cue in (*_CHINESE_CUE.finditer(prompt), *_CHINESE_CHARACTERS.finditer(prompt)):
        start, end = cue.span("text")
        if any(first <= start < last for first, last in taken):
            continue
        text = _CHINESE_TAIL.sub("", cue["text"]).strip()
        if text and not _CHINESE_NO_TEXT.fullmatch(text):
            taken.append((start, end))
            yield NamedText(start, text)
