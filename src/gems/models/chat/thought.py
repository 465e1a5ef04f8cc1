"""Separate a model's thought from its answer, by the marks that models put around them.

Servers split some marks off themselves; what they do not know, or what the model writes in ordinary tokens,
stands in the text. Only what follows the last thought is the answer.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import NamedTuple

from gems.models.chat.parsing import find_values


class Marks(NamedTuple):
    """The marks of one family of models, as regular expressions that are matched in any case.

    Attributes:
        family: Models that write them.
        opens: Begins a thought.
        closes: Ends it.
        answers: Begins the answer, and ends a thought that was not closed.
        source: Where the marks are documented.
    """

    family: str
    opens: str
    closes: str
    answers: str
    source: str


_TAG = r"(?:<|&lt;)\s*{}\s*(?:{})(?:[:|_][\w-]+)?(?:\s[^<>]*)?(?:>|&gt;)"
_PREFIX = r"(?:[a-z]\w*[:|_])?"
# Any tag of these names, with the prefixes and suffixes that checkpoints give them: `<mm:think>`, `<seed:think>`,
# `<longcat_think>`, `<ifm|think_fast>`, `<think:opensource>`.
_NAMES = (
    f"{_PREFIX}think(?:ing)?|{_PREFIX}thoughts?|ant_?thinking|reason(?:ing)?|reflect(?:ion)?|scratch_?pad|analysis|"
    r"inner_?monologue|brainstorm|planning|deliberation|cot|seed:cot_budget_reflect|think_(?:on|off)"
)
MARKS = (
    Marks(
        "DeepSeek, Qwen, GLM, Kimi K2, MiniMax, Nemotron, Granite, Hunyuan, ERNIE, Seed-OSS, LongCat, K2, Gemini, "
        "EXAONE, Nova, Reka, Marco-o1, Hermes and most others",
        _TAG.format("", _NAMES),
        _TAG.format(r"[/\\]", _NAMES),
        "",
        "vllm/reasoning/*_reasoning_parser.py; sglang python/sglang/srt/parser/reasoning_parser.py",
    ),
    Marks(
        "Magistral, Ministral Reasoning, Mistral Small 4",
        r"\[think(?:ing)?\]",
        r"\[/think(?:ing)?\]",
        "",
        "vllm/reasoning/mistral_reasoning_parser.py",
    ),
    Marks("Kimi-VL-Thinking, Kimi-Dev", "◁think▷", "◁/think▷", "", "sglang reasoning_parser.py"),
    Marks(
        "Kimi K3",
        r"<\|open\|>\s*think\s*<\|sep\|>",
        r"<\|close\|>\s*think\s*<\|sep\|>",
        r"<\|open\|>\s*response\s*<\|sep\|>",
        "vllm/reasoning/kimi_k3_reasoning_parser.py",
    ),
    Marks(
        "gpt-oss, LLM-jp (Harmony)",
        r"<\|channel\|>\s*(?:analysis|commentary)\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
        r"<\|end\|>",
        r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
        "sglang python/sglang/srt/parser/harmony_parser.py; vllm/reasoning/gptoss_reasoning_parser.py",
    ),
    Marks(
        "gpt-oss without its special tokens",
        r"\A\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z\s])",
        "",
        r"assistantfinal(?:json)?",
        "sglang harmony_parser.py, text strategy",
    ),
    Marks(
        "Gemma 4",
        r"<\|channel>\s*thought\b",
        r"<channel\|>",
        "",
        "llama.cpp common/parsers/gemma4.cpp; ollama model/parsers/gemma4.go",
    ),
    Marks(
        "Gemma 4 and MedGemma without special tokens, or by their unused ones",
        r"\A\s*(?:<unused94>\s*)?thought(?:\[\]|\(\))?\s*\n|<unused94>",
        "<unused95>",
        r"^[^\w\n]*final answer[^\w\n]*:",
        "ollama model/parsers/gemma4.go and its issue 17626",
    ),
    Marks(
        "Cohere Command",
        r"<\|START_THINKING\|>",
        r"<\|END_THINKING\|>",
        r"<\|START_(?:RESPONSE|TEXT)\|>",
        "vllm/reasoning/cohere_command_reasoning_parser.py",
    ),
    Marks(
        "Granite 3.2",
        r"^[ \t]*here(?:'|’| i)s my thought process:",
        "",
        r"^[ \t]*here(?:'|’| i)s my response:",
        "vllm/reasoning/granite_reasoning_parser.py",
    ),
    Marks("Apriel", r"\A\s*here are my reasoning steps:", "", r"\[BEGIN FINAL RESPONSE\]", "llama.cpp common/chat.cpp"),
    Marks("Apertus", r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", "", "vllm/reasoning/apertus_reasoning_parser.py"),
    Marks(
        "PLaMo 3",
        r"<\|plamo:begin_think:plamo\|>",
        r"<\|plamo:end_think:plamo\|>",
        "",
        "vllm/reasoning/plamo3_reasoning_parser.py",
    ),
    Marks(
        "Solar Open, and tokens of the same pattern",
        r"<\|(?:start_?of_?|begin_?of_?|start_|begin_)?(?:think(?:ing)?|thought|reasoning)(?:[:_]start)?\|>",
        r"<[/|]\|?/?(?:end_?of_?|end_)?(?:think(?:ing)?|thought|reasoning)(?:[:_]end)?\|>",
        r"<\|content\|>|<\|begin_of_solution\|>",
        "vllm/reasoning/solar_open2_reasoning_parser.py; open-webui utils/middleware.py",
    ),
    Marks(
        "Inkling",
        r"<\|content_thinking\|>",
        r"<\|end_message\|>",
        r"<\|content_text\|>",
        "vllm/reasoning/inkling_reasoning_parser.py",
    ),
    Marks(
        "Muse Glimmer",
        r"\bto=self\s*<\|message\|>",
        r"<\|eom\|>",
        r"\bto=user\s*<\|message\|>",
        "vllm/reasoning/muse_glimmer_reasoning_parser.py",
    ),
    Marks("openPangu", r"\[unused16\]", r"\[unused17\]", "", "vllm/reasoning/pangu_reasoning_parser.py"),
    Marks(
        "HyperCLOVAX-SEED-Think-14B, s1",
        r"\A\s*/think\s*\n|<\|im_start\|>\s*think\b",
        "",
        r"<\|im_end\|>\s*<\|im_start\|>\s*assistant[^\n]*\n|<\|im_start\|>\s*answer\b",
        "vllm/reasoning/hyperclovax_seed_think_14b_reasoning_parser.py",
    ),
    Marks(
        "HuatuoGPT-o1, GLM-Zero",
        r"^[ \t]*#{2,3}[ \t]*thinking\b",
        "",
        r"^[ \t]*#{2,3}[ \t]*(?:final[ \t]+)?response\b",
        "model card of HuatuoGPT-o1",
    ),
    Marks("LLaVA-CoT", "<SUMMARY>|<CAPTION>", "</SUMMARY>|</CAPTION>", "<CONCLUSION>", "model card of LLaVA-CoT"),
    Marks(
        "Open WebUI's stored form",
        r'<details\s[^<>]*type="?reasoning"?[^<>]*>',
        "</details>",
        "",
        "open-webui backend/open_webui/utils/middleware.py",
    ),
)

_LEAKED = re.compile(
    r"<\|(?:im_start|start|begin)\|>\s*assistant\b(?:\s+to=\w+)?|<\|message_model\|>|<\|(?:im_end|im_start|endoftext|eot_id|eom_id|end_of_text|begin_of_text|end|return|call|user|assistant|observation|"
    r"assistant_end|end_of_msg|END_RESPONSE|END_TEXT|END_OF_TURN_TOKEN|stop|endofturn|eot|content_model_end_sampling|"
    r"flush|role_end)\|>|<(?:end_of_turn|start_of_turn|turn\||eos|bos|pad|sep|end_of_utterance|seed:eos)>|</?s>|"
    r"<[|｜]end[▁_ ]of[▁_ ]sentence[|｜]>|\[EOS\]|\[EOT\]|\[\|endofturn\|\]|\]~b\]ai|\[e~\[|\[END FINAL RESPONSE\]|"
    r"<\|close\|>\s*(?:response|message)\s*<\|sep\|>",
    re.IGNORECASE,
)
"""Tokens that end a message or a turn, which servers leave in the text."""


def _any_of(kind: str) -> str:
    return f"(?P<{kind}>{'|'.join(pattern for marks in MARKS if (pattern := getattr(marks, kind)))})"


# A mark in backticks is spoken about.
_MARK = re.compile(
    rf"(?<!`)(?:{_any_of('opens')}|{_any_of('answers')}|{_any_of('closes')})", re.IGNORECASE | re.MULTILINE
)
_EMPTY_AT_END = re.compile(rf"(?:{_any_of('opens')})\s*(?:{_any_of('closes')})\s*\Z", re.IGNORECASE | re.MULTILINE)
_NEEDS_THOUGHT = re.compile(r"<\|(?:end|end_message|eom)\|>|</details>|[^<\[◁&].*", re.IGNORECASE | re.DOTALL)
"""Marks that mean something else where no thought stands in front of them."""


def split_thought(content: str) -> tuple[str, str]:
    """Split content into the thought and the answer after it.

    The opening mark may be missing, since chat templates write it; a thought without an end has no answer.
    Marks in the strings of complete JSON values are data.
    """
    content = _EMPTY_AT_END.sub("", content)
    start, in_thought, found, thought_end = 0, False, False, 0
    data = _json_spans(content)
    for mark in _MARK.finditer(content):
        if any(first <= mark.start() < last for first, last in data):
            continue
        if mark["opens"]:
            found = in_thought = True
        elif in_thought or (found and mark["answers"]) or not _NEEDS_THOUGHT.fullmatch(mark[0]):
            found, in_thought, start, thought_end = True, False, mark.end(), mark.start()
    if not found:
        return "", _strip(content)
    thought = content if in_thought else content[:thought_end]
    return _strip(_MARK.sub("", thought)), "" if in_thought else _strip(content[start:])


def _strip(answer: str) -> str:
    return _LEAKED.sub("", answer).strip()


def _json_spans(content: str) -> list[tuple[int, int]]:
    """Return where complete JSON values begin and end."""
    spans: list[tuple[int, int]] = []
    # Those in front of one that is cut off count: a mark in a string ends no thought.
    with suppress(ValueError):
        for found in find_values(content):
            if not found.is_mended:
                spans.append((found.start, found.end))
    return spans
