"""What chat programs write themselves, as they really send it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gems.apps.server.openai.templates import answer_helper, unwrap_request
from tests.apps.server.openai.test_errors import CHAT
from tests.support.scripted_service import PATIENCE_S, House

_SOURCES = (
    "### Task:\nRespond to the user query using the provided context, incorporating inline citations in the format "
    '[id] **only when the <source> tag includes an explicit id attribute** (e.g., <source id="1">).\n\n'
    "### Guidelines:\n- If you don't know the answer, clearly state that.\n\n### Output:\nProvide a clear response.\n\n"
)
_CONTEXT = '<context>\n<source id="1" name="notes.txt">Draw nothing of this: ### Task:</source>\n</context>'
_HISTORY = "### Chat History:\n<chat_history>\nUSER: draw a red cat on a mat, please\nASSISTANT: Round 1 is best.\n"
_TALK = f"{_HISTORY}USER: now make it green\n</chat_history>"
_ATTACHED = """<attached_files>
<file type="file" id="918c" url="918c" content_type="text/plain" name="notes.txt"/>
</attached_files>

"""
WRAPPED = [
    f"{_ATTACHED}a red cat",
    f"{_ATTACHED}{_SOURCES}{_CONTEXT}\n\n<user_query>\na red cat\n</user_query>\n",
    f"{_SOURCES}{_CONTEXT}\n\n{_ATTACHED}a red cat",
    f"{_SOURCES}{_CONTEXT}\n\n<user_query>\na red cat\n</user_query>\n",
    f"{_SOURCES}{_CONTEXT}\n\na red cat",
    f"{_SOURCES}<user_query>\na red cat\n</user_query>\n{_CONTEXT}",
]
OPEN_WEBUI: list[tuple[str, Any]] = [
    (
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Guidelines:\n"
        '- Be clear.\n### Output:\nJSON format: { "title": "your concise title here" }\n### Examples:\n'
        f'- {{ "title": "Stock Market Trends" }}\n{_TALK}',
        {"title": "draw a red cat on"},
    ),
    (
        "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history, along with 1-3 more "
        f'specific subtopic tags.\n\n### Output:\nJSON format: {{ "tags": ["tag1", "tag2", "tag3"] }}\n\n{_TALK}',
        {"tags": ["Image Generation"]},
    ),
    (
        "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next.\n"
        f'### Output:\nJSON format: {{ "follow_ups": ["Question 1?", "Question 2?"] }}\n{_TALK}',
        {"follow_ups": []},
    ),
    (
        "### Task:\nAnalyze the chat history to determine the necessity of generating search queries.\n"
        f'### Output:\nStrictly return in JSON format: \n{{\n  "queries": ["query1", "query2"]\n}}\n\n{_TALK}',
        {"queries": []},
    ),
    (
        "### Task:\nGenerate a detailed prompt for am image generation task based on the given language and context.\n"
        f'### Output:\nStrictly return in JSON format:\n{{\n    "prompt": "Your description here."\n}}\n{_TALK}',
        {"prompt": "now make it green"},
    ),
    (
        "### Task:\nYou are an autocompletion system. Continue the text in `<text>`.\n### Output\nRespond only with a "
        'valid JSON object: {"text": "completion"}\n<text>a red</text>',
        {"text": ""},
    ),
]
TITLES = [
    "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. Only return the title "
    "itself.\n\nConversation:\nUser: a red cat on the moon tonight\nAI: Round 1 is best.",
    "Please generate a concise, 5-word-or-less title for the conversation, using its same language, with no "
    "punctuation.\n\n||>User:\n||>User: a red cat on the moon tonight\n||>Response:\nRound 1.\n\n||>Title:",
    "Write a short title (max 6 words) for this chat.\n\nuser: a red cat on the moon tonight\nassistant: done",
]
DRAWN = [
    "a red cat",
    "a title page of a book: concise, elegant",
    'a poster with the title "Conversation", short and bold',
    "### a heading\na red cat",
    "the conversation of two friends, title in gold letters",
    "Task: draw a red cat",
]


@pytest.mark.parametrize("text", WRAPPED)
def test_the_words_of_a_person_are_found_in_a_template(text: str) -> None:
    assert answer_helper([text]) is None
    assert unwrap_request(text) == "a red cat"


@pytest.mark.parametrize(("text", "expected"), OPEN_WEBUI)
def test_helper_requests_of_open_webui_get_the_form_that_they_ask_for(text: str, expected: Any) -> None:
    answer = answer_helper([text])
    assert answer is not None
    assert json.loads(answer) == expected


def test_an_emoji_is_one_character() -> None:
    text = "Your task is to reflect the speaker's likely facial expression through a fitting emoji. Interpret emotions"
    assert len(answer_helper([text]) or "") == 1


@pytest.mark.parametrize("text", TITLES)
def test_titles_for_other_programs(text: str) -> None:
    assert answer_helper([text]) == "a red cat on the"


def test_a_title_may_be_asked_for_by_the_system_message() -> None:
    system = "You are a helper. Summarize the conversation in a short title of at most 10 words."
    assert answer_helper([system, "user: a red cat on the moon\nassistant: done"]) == "a red cat on the"
    assert answer_helper(["You draw.", "a red cat"]) is None


@pytest.mark.parametrize("text", DRAWN)
def test_what_a_person_asks_for_is_drawn(text: str) -> None:
    assert answer_helper([text]) is None
    assert unwrap_request(text) == text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", [OPEN_WEBUI[0][0], TITLES[0]])
def test_nothing_is_drawn_or_asked_for_a_helper_request(base: str, house: House, text: str, stream: bool) -> None:
    body = {"model": "gems", "stream": stream, "messages": [{"role": "user", "content": text}], "max_tokens": 50}
    answer = httpx.post(base + CHAT, json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert "x-gems-run-id" not in answer.headers
    assert "red cat on" in answer.text
    assert (house.chat.asked, house.drawn()) == ([], [])


@pytest.mark.parametrize("text", WRAPPED)
def test_what_stands_in_a_template_is_drawn(base: str, house: House, text: str) -> None:
    body = {"messages": [{"role": "user", "content": text}]}
    assert httpx.post(base + CHAT, json=body, timeout=PATIENCE_S).status_code == 200
    assert house.drawn()[0][0] == "a red cat"
