"""One request to a chat endpoint, and the next one after it failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gems.errors import (
    BlindModelError,
    ContextExceededError,
    GemsError,
    ProviderTimeoutError,
    RateLimitError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
    TruncatedReplyError,
    UnreadableReplyError,
)
from gems.models.chat.capabilities import FEATURES, Capabilities, ChatLimits, feature_of, structured_mode
from gems.models.chat.messages import Question
from gems.models.chat.schemas import TASK_ROLES
from gems.models.http import is_retryable

MOST_REQUESTS = 3
"""Requests for one answer that the endpoint may have spent something on, or refused."""
_MOST_TIMEOUTS = 2
_PARAMETERS = frozenset(FEATURES) - {"parts", "system"}
"""Features that cost nothing but quality where they are left out."""
_FINAL = ("bad_image", "redirect")
"""Refusals that no other request avoids."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent of a question.

    Attributes:
        lacking: Features that are left out.
        pictures: Only so many of the last images; None for all.
        shrunk: How often the images' sides are halved.
        max_tokens: Instead of the question's own; None for that one.
    """

    lacking: frozenset[str]
    pictures: int | None = None
    shrunk: int = 0
    max_tokens: int | None = None


@dataclass(slots=True)
class Asking:
    """The requests for one answer: what is sent next, and what their failures teach about the endpoint."""

    question: Question
    limits: ChatLimits
    capabilities: Capabilities
    request: Request = field(init=False)
    requests: int = 0
    waits: int = 0
    _timeouts: int = 0
    _refusals: int = 0
    _refused: set[str] = field(default_factory=set)
    _suspected: set[str] = field(default_factory=set)
    _most_pictures: int | None = None

    def __post_init__(self) -> None:
        """Begin with all that the endpoint is not known to lack."""
        known = self.capabilities
        # A judge is never asked about an image that it is not shown.
        pictures = None if self._is_judging and known.most_pictures == 0 else known.most_pictures
        self.request = Request(known.lacking, pictures, known.shrunk)

    def succeed(self) -> None:
        """Remember what had to be left out."""
        shrunk = self.request.shrunk if self._shown() else 0
        self.capabilities.learn(self._refused, self._most_pictures, shrunk)
        asked_for = {structured_mode(self.request.lacking)} if self.question.reply is not None else set()
        asked_for |= {"logprobs"} if self._has_optional_logprobs else set()
        self.capabilities.suspect(self._suspected, cleared=asked_for)

    def go_on(self, error: BaseException) -> bool:
        """Return whether to send another request after `error`, and make it the next one.

        Raises:
            BlindModelError: The model cannot see the images that the question is about.
        """
        if isinstance(error, RateLimitError):
            self.waits += 1
            return is_retryable(error) and self.waits < self.limits.attempts
        self.requests += 1
        following = self._after(error)
        if following is None:
            return False
        # What is asked for in another way is no mere repetition.
        most = MOST_REQUESTS if following != self.request else min(MOST_REQUESTS, self.limits.attempts)
        self.request = following
        return self.requests < most

    def _after(self, error: BaseException) -> Request | None:  # noqa: PLR0911 - one per kind of error
        """Return the next request; None where none can help."""
        request, lacking = self.request, self.request.lacking
        match error:
            case TruncatedReplyError():
                most = error.limit
                return None if request.max_tokens is not None or most is None else replace(request, max_tokens=2 * most)
            case BlindModelError():
                return self._without_pictures()
            case TooManyImagesError():
                return self._with_fewer_pictures(error)
            case ContextExceededError():
                return self._with_less_to_see()
            case RejectedRequestError():
                return self._without_refused(error)
            case UnreadableReplyError():
                return self._in_another_form()
            case ProviderTimeoutError():
                self._timeouts += 1
                return request if self._timeouts < _MOST_TIMEOUTS else None
            case ServerError() if self._has_optional_logprobs or (
                self.question.reply is not None and structured_mode(lacking) != "text"
            ):
                return self._without_suspect()
            case GemsError():
                return request if is_retryable(error) else None
        return None

    def _in_another_form(self) -> Request:
        """Return the request in a form in which the reply may be readable.

        Only this question is asked in another way: the endpoint may be able to do it.
        """
        lacking = self.request.lacking
        mode = structured_mode(lacking) if self.question.reply is not None else "text"
        left_out = {mode} if mode != "text" else set()
        if "stream" in lacking and self._has_optional_logprobs:
            # They may have made it too large for one response.
            left_out.add("logprobs")
            self._suspected.add("logprobs")
        return replace(self.request, lacking=lacking | left_out)

    def _without_suspect(self) -> Request:
        """Return the request without what a server may have failed at: log probabilities of JSON, then a schema."""
        lacking = self.request.lacking
        if self._has_optional_logprobs:
            self._suspected.add("logprobs")
            return replace(self.request, lacking=lacking | {"logprobs"})
        mode = structured_mode(lacking)
        left_out = {mode}
        if "logprobs" in self._suspected:
            # They were not to blame, and no request is left to try the JSON mode before a text.
            self._suspected.remove("logprobs")
            left_out.add("json_mode")
        self._suspected.add(mode)
        return replace(self.request, lacking=lacking | left_out)

    def _without_refused(self, error: RejectedRequestError) -> Request | None:
        request = self.request
        if error.refused in _FINAL:
            return None
        if error.refused == "text_only" and "parts" in request.lacking and self._shown():
            # Only because of images is there still more than a text.
            return self._without_pictures()
        self._refusals += 1
        limits_texts = self.capabilities.limits_texts
        feature = feature_of(error.refused, request.lacking, self.question.reply, limits_texts=limits_texts)
        # Without a name it is rather what the questions before did not ask for.
        named = {feature} if feature else {"logprobs"} if self._has_optional_logprobs else set()
        left_out = request.lacking | named
        if self._refusals > 1 or left_out == request.lacking:
            # What else it may refuse is not found out one by one.
            left_out |= _PARAMETERS
        if left_out == request.lacking:
            left_out = frozenset(FEATURES)
        # Of a refusal that names nothing it cannot be told what had to be left out.
        self._refused |= (named or left_out) - request.lacking
        return None if left_out == request.lacking else replace(request, lacking=left_out)

    def _without_pictures(self) -> Request | None:
        if not self._shown() or self._is_judging:
            return None
        self._most_pictures = 0
        return replace(self.request, pictures=0)

    def _with_fewer_pictures(self, error: TooManyImagesError) -> Request | None:
        shown = self._shown()
        most = error.limit if error.limit is not None else shown // 2
        if most < 1 or shown < 2:
            return None
        self._most_pictures = min(most, shown - 1)
        return replace(self.request, pictures=self._most_pictures)

    def _with_less_to_see(self) -> Request | None:
        shown = self._shown()
        if shown > 1:
            return replace(self.request, pictures=1)
        return replace(self.request, shrunk=self.request.shrunk + 1) if shown else None

    @property
    def _has_optional_logprobs(self) -> bool:
        """Whether the request asks for log probabilities of JSON, which is worth as much without them."""
        asks = self.question.logprobs and self.question.reply is not None and self.limits.logprobs
        return asks and "logprobs" not in self.request.lacking

    @property
    def _is_judging(self) -> bool:
        return TASK_ROLES[self.question.task] == "judge"

    def _shown(self) -> int:
        return len(self.question.last_pictures(self.request.pictures))
