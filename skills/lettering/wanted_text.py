"""Which text a prompt asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BLANK = "\ufffc"
"""Replaces every character of quoted text, so that positions stay the same."""


@dataclass(frozen=True, slots=True)
class NamedText:
    """A text that a prompt names.

    Attributes:
        start: Position in the prompt.
        text: The text to be written.
    """

    start: int
    text: str


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


_WORD = re.compile(r"[ \t]*([^\s,.;:!?()\[\]{}<>|—–…\"“”，。；：！？、\ufffc]+(?:[.,:/]\d+)*[!?]*)")
TITLE_WORDS = frozenset(
    {"of", "the", "and", "a", "an", "to", "for", "in", "on", "at", "with", "or", "de", "la", "und"}
)
"""Words written in lower case within a title."""
_NOT_OF_A_TITLE = frozenset(
    {
        "english",
        "french",
        "german",
        "spanish",
        "italian",
        "chinese",
        "japanese",
        "latin",
        "helvetica",
        "arial",
    }
    | {"times", "comic", "gothic", "garamond", "futura", "impact", "roman", "cyrillic", "kanji", "art"}
)
"""Words after "in" that say how a text is written."""
STOP_WORDS = frozenset(
    {
        "in",
        "on",
        "at",
        "with",
        "and",
        "or",
        "but",
        "that",
        "which",
        "who",
        "whose",
        "while",
        "where",
        "when",
        "as",
    }
    | {
        "above",
        "below",
        "under",
        "underneath",
        "beneath",
        "over",
        "near",
        "beside",
        "besides",
        "by",
        "next",
        "from",
    }
    | {
        "behind",
        "across",
        "along",
        "against",
        "inside",
        "into",
        "onto",
        "around",
        "through",
        "between",
        "like",
    }
    | {"is", "are", "was", "were", "be", "has", "have", "should", "must", "can", "appears", "appear", "using"}
    | {"written", "painted", "printed", "drawn", "engraved", "carved", "embroidered", "stitched", "stamped"}
    | {
        "spelled",
        "displayed",
        "shown",
        "visible",
        "hanging",
        "standing",
        "floating",
        "glowing",
        "mounted",
        "made",
    }
    | {
        "placed",
        "set",
        "centered",
        "centred",
        "formed",
        "lettered",
        "surrounded",
        "then",
        "there",
        "it",
        "its",
    }
)
_STOP_VERBS = frozenset(
    {"is", "are", "was", "were", "be", "has", "have", "should", "must", "can", "it", "its", "there"}
)
_STOPS_AFTER_COLON = STOP_WORDS - _STOP_VERBS
_MAX_LOWER_CASE_WORDS = 8


def words_from(text: str, start: int) -> list[str]:
    """Return the words from `start` to punctuation or the line's end."""
    found = []
    while match := _WORD.match(text, start):
        found.append(match[1])
        start = match.end()
        if found[-1][-1] in "!?":
            break
    return found


def is_capitals(token: str) -> bool:
    """Return whether the token is in capital letters, a number or a sign."""
    return not any(character.islower() for character in token) and (
        any(character.isalnum() for character in token) or token in {"&", "+", "=", "-"}
    )


def is_loud(words: Sequence[str]) -> bool:
    """Return whether the words are in capitals, and more than a single letter or a number."""
    return all(map(is_capitals, words)) and sum(c.isalpha() for word in words for c in word) >= 2


def find_phrase(words: Sequence[str], *, announced: bool = False, single: bool = False) -> list[str]:
    """Return the beginning of `words` that is the text.

    `words` ends at punctuation. `announced` says that a colon precedes them, so that a sentence with its own
    verb may follow. `single` says that one word is announced; several are accepted only in capitals or as a
    title.
    """
    if not words:
        return []
    if is_capitals(words[0]) and not _is_article_of_title(words):
        return _phrase_in_capitals(words)
    if words[0][0].isupper() and (len(words) < 2 or single or not _continues_in_lower_case(words[1])):
        return _phrase_in_title_case(words)
    return _phrase_in_lower_case(words, _STOPS_AFTER_COLON if announced else STOP_WORDS)[
        : 1 if single else None
    ]


def _is_article_of_title(words: Sequence[str]) -> bool:
    """Return whether the next word decides how the text is written: `A Quiet Place`, `I love you`."""
    return words[0] in {"A", "I"} and len(words) > 1 and not is_capitals(words[1])


def _continues_in_lower_case(word: str) -> bool:
    return word[0].islower() and word not in STOP_WORDS and word not in TITLE_WORDS


def _phrase_in_capitals(words: Sequence[str]) -> list[str]:
    taken = 1
    while taken < len(words) and is_capitals(words[taken]):
        taken += 1
    # `GO 3 times`: the number belongs to what follows.
    counts = taken < len(words) and words[taken] not in STOP_WORDS and words[taken][0].islower()
    while counts and taken > 1 and words[taken - 1].isdigit():
        taken -= 1
    return list(words[:taken])


def _phrase_in_title_case(words: Sequence[str]) -> list[str]:
    taken = 1
    while taken < len(words):
        ahead = taken
        while ahead < len(words) and ahead < taken + 2 and words[ahead] in TITLE_WORDS:
            ahead += 1
        if ahead >= len(words) or not (words[ahead][0].isupper() or is_capitals(words[ahead])):
            break
        if ahead > taken and words[ahead].casefold() in _NOT_OF_A_TITLE:
            break
        taken = ahead + 1
    return list(words[:taken])


def _phrase_in_lower_case(words: Sequence[str], stops: frozenset[str]) -> list[str]:
    taken = 0
    while taken < len(words) and taken < _MAX_LOWER_CASE_WORDS and words[taken] not in stops:
        taken += 1
    return list(words[:taken])


_PAIRS = {
    '"': '"',
    "“": "”",
    "„": "“”",
    "«": "»",
    "»": "«",
    "‘": "’",
    "'": "'",
    "`": "`",
    "「": "」",
    "『": "』",
    "《": "》",
}
_SINGLE = frozenset("'’")
MAX_SENTENCE = 1_000
"""Characters before a text that are examined."""
_MAX_QUOTE = 3000
_NO_OPENING = re.compile(r"'(?:\d0s\b|n'|tis\b|twas\b|em\b|cause\b|til\b)", re.IGNORECASE)

WRITING_WORDS = re.compile(
    r"\b(?:sign(?:s|age|post|board)?|posters?|banners?|billboards?|labels?|label+ed|placards?|plaques?|stickers?"
    r"|logos?|brand(?:ed|ing)?|titles?|titled|entitled|heading|headlines?|subtitles?|captions?|captioned|slogans?"
    r"|taglines?|mottos?|text|texts|words?|wording|letters?|lettering|lettered|phrases?|quotes?|messages?"
    r"|inscriptions?|inscribed|inscribing|engraved|engraving|carved|etched|embossed|embroidered|stitched|stamped"
    r"|printed|written|writing|writes|painted|spelled|spelling|spells?|reads?|reading|says?|saying|stat(?:es|ing)"
    r"|marked|tattoo(?:ed)?|graffiti|typography|font|calligraphy|handwritten|chalkboard|blackboard|whiteboard"
    r"|menu|neon|t-?shirt|shirt|jersey|mug|cover|magazine|newspaper|book|album|screen|display(?:s|ed|ing)?|bubble"
    r"|button|badge|tag|card|flag|ticket|flyer|leaflet|packag(?:e|ing)|bottle|jar|storefront|shop|store|caf[eé]"
    r"|bakery|restaurant|bar|hotel|cinema|ship|boat|hull|license plate|number plate|plate|door|wall|cake)\b"
    r"|[写印刻题标签牌匾幅报书字文题名店招语封]",
    re.IGNORECASE,
)
"""Words near which a quoted text is probably meant to be written."""
_WRITING_AT_ONCE = re.compile(
    r"(?:\b(?:reads?|reading|says?|saying|text|words?|letters?|titled?|label+ed|written|spelling|spells|phrase)\b"
    r"|[写印刻题标字])\W*\w{0,4}\W*$",
    re.IGNORECASE,
)
_NAMING = re.compile(
    r"(?:\b(?:called|named|nicknamed|dubbed|known as|aka|so-called|goes by|answers to|by the name of|name is)"
    r"|名叫|名为|叫做|叫|绰号|昵称|外号)\s*[,:：]?\s*$",
    re.IGNORECASE,
)
_ALLUDING = re.compile(
    r"(?:\b(?:in the style of|inspired by|reminiscent of|based on|scene from|still from|character from|as in"
    r"|the (?:film|movie|novel|song|game|series|concept of|feeling of|idea of|theme of|mood of|term)"
    r"|so-called|evok(?:es|ing)|symboli[sz](?:es|ing)))\s*(?:the )?$",
    re.IGNORECASE,
)
_MANNER = re.compile(
    r"^[\s,-]*(?:style|styled|aesthetics?|look|feel|vibe|mood|atmosphere|theme|themed|effect|pose|风格|风|感)\b"
    r"|^[\s的]*(?:风格|感觉|氛围)",
    re.IGNORECASE,
)
_NEGATED_QUOTE = re.compile(
    r"(?:\b(?:without|no|not|never|avoid|instead of|rather than|don'?t|remove|excluding)\b[^.;,!?\n]{0,40}"
    r"|(?:不要|没有|不写|去掉|避免)[^。；，！？\n]{0,12})$",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"\b(?:but|except|other than|besides|apart from|only|just|than)\b|除", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QuotedText:
    """A text in quotation marks.

    Attributes:
        start: Position of its opening mark.
        end: Position after its closing mark.
        text: The text between the marks.
        mark: The opening mark.
    """

    start: int
    end: int
    text: str
    mark: str


def find_quoted(prompt: str) -> list[QuotedText]:
    """Return all quoted texts; quotation marks within quotation marks belong to the text."""
    found, at = [], 0
    while at < len(prompt):
        closing = _find_closing(prompt, at) if _opens_quote(prompt, at) else None
        if closing is None:
            at += 1
            continue
        found.append(QuotedText(at, closing + 1, _clean_lines(prompt[at + 1 : closing]), prompt[at]))
        at = closing + 1
    return [one for one in found if one.text]


def is_wanted(prompt: str, one: QuotedText) -> bool:
    """Return whether a quoted text should be written in the image, as most should.

    Exceptions are names of living things and the like (`a dog called "Rex"`, without a sign, label, book or
    shop in the sentence), styles and works alluded to (`"vaporwave" style`, `inspired by "Dune"`), and
    forbidden text (`without the word "SALE"`). Titles in 《》 count only after a word of writing.
    """
    # The limit avoids reading the whole prompt for each of a thousand quotations.
    before = re.split(r"(?<=[.!?。！？])\s+|\n", prompt[max(0, one.start - MAX_SENTENCE) : one.start])[-1]
    negated = _NEGATED_QUOTE.search(before)
    if negated and not _EXCEPTION.search(negated[0]):
        return False
    if _WRITING_AT_ONCE.search(before):
        return True
    if _ALLUDING.search(before) or _MANNER.search(prompt[one.end : one.end + 20]):
        return False
    if one.mark == "《" or _NAMING.search(before):
        return WRITING_WORDS.search(before) is not None
    return True


def _opens_quote(prompt: str, at: int) -> bool:
    mark = prompt[at]
    if mark not in _PAIRS:
        return False
    before, after = prompt[at - 1 : at], prompt[at + 1 : at + 2]
    if mark == "'":
        # An apostrophe is within or after a word.
        fits = not before.isalnum() or not before.isascii()
        return fits and bool(after.strip()) and not _NO_OPENING.match(prompt, at)
    if mark == '"':
        # Inches: a 24" monitor.
        return not before.isdigit()
    return True


def _find_closing(prompt: str, at: int) -> int | None:
    ends = _PAIRS[prompt[at]]
    for place in range(at + 1, min(len(prompt), at + _MAX_QUOTE)):
        if prompt[place] not in ends:
            continue
        if prompt[place] in _SINGLE and not _closes_single_quote(prompt, at, place):
            continue
        return place
    return None


def _closes_single_quote(prompt: str, at: int, place: int) -> bool:
    before, after = prompt[place - 1], prompt[place + 1 : place + 2]
    if (after.isalnum() and after.isascii()) or before.isspace():
        return False
    if before not in "sS":
        return True
    # `'The Dogs' Home'`: an apostrophe of a genitive, if a better end follows before the next start.
    rest = prompt[place + 1 : place + 40]
    better = re.match(rf"[^\n.;{prompt[at]}'’]*[^\W_sS][!?.]?['’](?!\w)", rest)
    return better is None


def _clean_lines(text: str) -> str:
    """Strip blanks and escapes around the lines, and the trailing comma of American usage."""
    lines = [line.strip() for line in text.replace("\\n", "\n").strip("\\ ").splitlines()]
    return "\n".join(line for line in lines if line).rstrip(",，").strip()


_ADVERBS = r"(?:clearly|simply|just|only|boldly|proudly|out|loudly|prominently|with)"
_HOW = r"(?:\s+in\s+(?:[a-z-]+\s+){0,4}(?:letters|capitals|font|type|script|lettering|handwriting|neon))?"
_GAP = rf"(?:\s+(?:is|are))?(?:\s+{_ADVERBS})*{_HOW}\s*[:,]?\s*"
_KINDS = {
    "noun": r"(?:words?|text|phrase|slogan|tagline|motto|caption|headline|heading|inscription|wording|message"
    r"|title|name|quote|greeting)",
    "letters": r"(?:letters?|initials?|lettering|acronym)",
    "number": r"(?:numbers?|numerals?|digits?)",
    "says": r"(?:says?|saying|spell(?:s|ing)?|spelled|states?|stating|announc(?:es|ing)|proclaim(?:s|ing)"
    r"|declar(?:es|ing)|writes?)",
    "reads": r"(?:reads?|reading)",
    "labelled": r"(?:label+ed|titled|entitled|captioned|inscribed|headed|subtitled|headlined)",
    "marked": r"(?:marked|stamped|engraved|embroidered|emblazoned|printed|lettered|tagged|branded|signed)",
}
_CUES = re.compile(
    r"\b(?:" + "|".join(f"(?P<{kind}>{words})" for kind, words in _KINDS.items()) + rf")\b(?![-'’]){_GAP}",
    re.IGNORECASE,
)
_BEARER = (
    r"(?:neon sign|sign(?:post|board|age)?s?|banners?|posters?|billboards?|placards?|plaques?|labels?"
    r"|stickers?|logos?|badges?|tags?|buttons?|headlines?|captions?|text|letters|lettering|words|bubbles?|boards?"
    r"|blackboards?|chalkboards?|whiteboards?|t-?shirts?|shirts?|jerseys?|hood(?:ie|y)|caps?|mugs?|cups?|cakes?|plates?|doors?"
    r"|walls?|screens?|displays?|notes?|cards?|flags?|tickets?|flyers?|covers?|jars?|bottles?|box(?:es)?|bags?|cans?"
    r"|stones?|gravestones?|tombstones?|mats?|doormats?|menus?|notices?|clocks?|graffiti|tattoos?|paper|scrolls?"
    r"|ribbons?|keychains?|monitors?|tiles?|awnings?|titles?|slogans?|it|and)"
)
_BEARERS = re.compile(rf"\b{_BEARER}\b", re.IGNORECASE)
_PEOPLE = re.compile(
    r"\b(?:wom[ae]n|m[ae]n|boys?|girls?|child(?:ren)?|kids?|persons?|people|students?|teachers?|mother|father|he"
    r"|she|they|cats?|dogs?|robots?|couples?|ladys?|ladies|guys?|monks?|wizards?|readers?|someone|grandmother"
    r"|grandfather|bears?|owls?|crowd|king|queen|knight|bab(?:y|ies)|tourists?|commuters?|scholars?|nurses?)\b",
    re.IGNORECASE,
)
_CAPITALS_CUE = re.compile(
    r"\b(?:sign|banner|poster|billboard|placard|plaque|label|sticker|logo|button|headline|slogan|caption)s?"
    r"[: ]\s*(?=[A-Z0-9])"
)
_WRITTEN_VERB = re.compile(
    r"\s(?:is |are )?(?:boldly |clearly |neatly )?(?P<verb>written|spelled|lettered|inscribed|engraved"
    r"|painted|printed|embroidered|carved|stamped|stitched)\s(?:out\s)?(?:on|in|across|above|below|along|over|at|upon|with)\b"
)
_NOT_BEHIND_A_NOUN = frozenset(
    {"cloud", "art", "game", "search", "processor", "count", "box", "editor", "page", "bar"}
    | {"card", "sequence", "of", "for", "to", "bubble", "bubbles", "overlay", "field", "size"}
    | {"color", "colour", "style", "font", "effect", "opener", "writer", "paper", "block", "blocks"}
    | {"tag", "plate", "tags", "plates", "line", "lines", "the", "a", "an", "reads"}
    | {"says", "reading", "saying", "only", "exactly", "here", "anywhere", "this", "not", "logo"}
    | {"message", "messages", "elements", "layout", "placement", "should", "you", "i", "we", "one"}
    | {"two"}
)
"""Continuations of the sentence: a text message, the words of the poem."""
_ARTICLES = frozenset({"a", "an", "the", "his", "her", "their", "its", "my", "your", "this", "that"})
_IS = re.compile(r"\s(?:is|are)\b", re.IGNORECASE)
"""Distinguishes "the title is Dune" from "the title is red"."""
_LIST = re.compile(r"\s*(?:,\s*and|,\s*or|,|and|or|&)\s+", re.IGNORECASE)
_NEGATED_TEXT = re.compile(
    r"\b(?:without|no|not|never|avoid|instead of|rather than|don'?t)\b[^.;,!?\n]{0,25}$", re.I
)


def find_unquoted(prompt: str, *, capitals_only: bool) -> list[NamedText]:
    """Return the texts that a prompt names.

    `prompt` has `BLANK` in place of quoted text. With `capitals_only`, only texts in capital letters count.
    """
    found = [*_find_after_cues(prompt), *_find_before_verbs(prompt), *_find_capitals(prompt)]
    if capitals_only:
        found = [one for one in found if is_loud(one.text.split())]
    found += find_chinese(prompt)
    kept: list[NamedText] = []
    for one in sorted(found, key=lambda one: (one.start, -len(one.text))):
        inside = any(other.start <= one.start < other.start + len(other.text) for other in kept)
        if not inside and not _NEGATED_TEXT.search(prompt[: one.start]):
            kept.append(one)
    return kept


def _find_after_cues(prompt: str) -> Iterator[NamedText]:
    for cue in _CUES.finditer(prompt):
        words = words_from(prompt, cue.end())
        kind = cue.lastgroup or ""
        if not words or BLANK in prompt[cue.end() : cue.end() + 2] or _CUES.match(prompt, cue.end()):
            continue
        text = find_phrase(
            words,
            announced=":" in cue[0],
            single=cue[0].strip(" :,").lower() in {"word", "name", "letter", "number"},
        )
        if text and _is_text(kind, cue, text, prompt):
            yield from _expand_list(prompt, cue.end(), text)


def _is_text(kind: str, cue: re.Match[str], text: list[str], prompt: str) -> bool:
    """Return whether the words after a cue are a text and not the rest of a sentence."""
    first = text[0].casefold()
    before = prompt[max(0, cue.start() - MAX_SENTENCE) : cue.start()].split()
    colon = ":" in cue[0]
    loud = is_loud(text)
    if _IS.search(cue[0]) and text[0][0].islower():
        return False
    if kind == "noun":
        title = len(text) > 1 and all(word[0].isupper() for word in (text[0], text[-1]))
        return loud or colon or title or first not in STOP_WORDS | _NOT_BEHIND_A_NOUN
    if kind == "letters":
        return all(map(is_capitals, text)) or (colon and len(text[0]) <= 3)
    if kind == "number":
        return text[0][0].isdigit() and (
            not before or before[-1].casefold() not in {"a", "any", "large", "small"}
        )
    if kind == "marked":
        return all(map(is_capitals, text))
    if kind == "labelled":
        return not (before and before[-1].casefold() in _ARTICLES) and first not in STOP_WORDS - {"in", "is"}
    return loud or _is_said(kind, cue, text, prompt)


def _is_said(kind: str, cue: re.Match[str], text: list[str], prompt: str) -> bool:
    """Return whether an object says or reads the text, and not a person who speaks or reads a book."""
    clause = re.split(r"[.;!?\n]", prompt[max(0, cue.start() - MAX_SENTENCE) : cue.start()])[-1]
    bearers, people = list(_BEARERS.finditer(clause)), list(_PEOPLE.finditer(clause))
    if text[0].casefold() in STOP_WORDS or text == ["nothing"]:
        return False
    if bearers and (not people or bearers[-1].start() > people[-1].start()):
        return True
    return kind == "says" and not people and text[0].casefold() not in _ARTICLES


def _expand_list(prompt: str, start: int, text: list[str]) -> Iterator[NamedText]:
    """Yield the text, and those in capitals listed after it: the words LOVE, PEACE and JOY."""
    place = prompt.index(text[0], start)
    end = _end(prompt, place, text)
    yield NamedText(place, " ".join(text))
    while all(map(is_capitals, text)) and (comma := _LIST.match(prompt, end)):
        text = find_phrase(words_from(prompt, comma.end()))
        if not text or not all(map(is_capitals, text)) or text[0][0].isdigit():
            return
        place = prompt.index(text[0], comma.end())
        end = _end(prompt, place, text)
        yield NamedText(place, " ".join(text))


def _end(prompt: str, place: int, text: list[str]) -> int:
    for word in text:
        place = prompt.index(word, place) + len(word)
    return place


def _find_before_verbs(prompt: str) -> Iterator[NamedText]:
    """Yield texts before a verb: GO written in the sand, Happy Birthday written on the cake."""
    for verb in _WRITTEN_VERB.finditer(prompt):
        run: list[str] = []
        for word in reversed(re.split(r"[.,;:()\n]", prompt[: verb.start()])[-1].split()):
            title = verb["verb"] in {"written", "spelled", "lettered", "inscribed"} and word[0].isupper()
            if BLANK in word or not (
                is_capitals(word) or title or word[0].isdigit() or (run and word in TITLE_WORDS)
            ):
                break
            run.insert(0, word)
        while run and run[0] in TITLE_WORDS:
            run.pop(0)
        if run and run[0] in {"A", "An", "The"} and not all(map(is_capitals, run)):
            run = []
        if run and (all(map(is_capitals, run)) or not _PEOPLE.search(" ".join(run))):
            yield NamedText(
                prompt.rindex(run[0], 0, verb.start()) if len(run) == 1 else _run_start(prompt, verb, run),
                " ".join(run),
            )


def _run_start(prompt: str, verb: re.Match[str], run: list[str]) -> int:
    place = verb.start()
    for word in reversed(run):
        place = prompt.rindex(word, 0, place)
    return place


def _find_capitals(prompt: str) -> Iterator[NamedText]:
    """Yield text in capitals directly after its carrier: a neon sign OPEN."""
    for bearer in _CAPITALS_CUE.finditer(prompt):
        text = find_phrase(words_from(prompt, bearer.end()))
        if text and is_loud(text):
            yield NamedText(prompt.index(text[0], bearer.end()), " ".join(text))


_CONTENT = re.compile(r"[^\s.,…\-–—_*]")


def wanted_texts(prompt: str) -> list[str]:
    r"""Return the texts that an image should contain, in the prompt's order, without duplicates.

    Quoted texts are taken except those that are clearly not to be written, see `quotes.is_wanted` (a dog
    called "Rex", "vaporwave" style, without the word "SALE"). Several lines within one pair of quotation
    marks stay one text, joined by `\n`.

    Unquoted texts are taken if the prompt says that they are written: the word GO, a sign that says Open
    Late, labelled Fresh Bread. Such a text ends at punctuation or where the sentence continues. If the prompt
    also has quoted text, only unquoted text in capital letters is taken: there the words after "reads" mostly
    describe the quoted text.

    Args:
        prompt: In any language for quoted texts, in English or Chinese for others.
    """
    marked = find_quoted(prompt)
    texts = [
        NamedText(one.start, one.text) for one in marked if is_wanted(prompt, one) and _has_content(one.text)
    ]
    rest = prompt
    for one in marked:
        rest = rest[: one.start] + BLANK * (one.end - one.start) + rest[one.end :]
    texts += [found for found in find_unquoted(rest, capitals_only=bool(marked)) if _has_content(found.text)]
    kept: dict[str, str] = {}
    for found in sorted(texts, key=lambda found: found.start):
        kept.setdefault(" ".join(found.text.casefold().split()), found.text)
    return list(kept.values())


def _has_content(text: str) -> bool:
    return _CONTENT.search(text) is not None
