"""All errors that GEMS raises on purpose, with their cause and a hint.

    GemsError
    ├── RequestError               the request is invalid                             exit 2
    │   ├── PromptError            the prompt is empty or too long
    │   ├── OptionError            an option is out of range
    │   │   └── NotOfferedError    no generator or judge of this name is on offer
    │   ├── SizeError              the generator does not support this size
    │   ├── EditingUnsupportedError  the generator cannot edit an image
    │   ├── AnswerNeededError      a skill asks a question that a person must answer
    │   ├── RunNotFoundError       no run has this id
    │   └── RunBusyError           another process is working on this run
    ├── ConfigurationError         the settings are invalid                           exit 2
    │   ├── ModelSpecError         a model spec is invalid
    │   ├── MissingExtraError      an optional dependency is not installed
    │   ├── ModelFilesError        the model's files are missing or damaged
    │   ├── SkillError             a skill's folder or code cannot be used
    │   ├── EmbedderMismatchError  the store of experiences was filled by another embedder
    │   ├── AuthenticationError    the endpoint rejects the key
    │   ├── ModelUnavailableError  the endpoint lacks the model, or the account may not use it
    │   ├── BlindModelError        the model cannot see images
    │   └── DataError              a benchmark's data are missing, damaged, or of another version
    ├── ProviderError              a model endpoint failed                            exit 1
    │   ├── UnreachableError       no server answers at the address
    │   ├── ProviderTimeoutError   no answer in time
    │   ├── RateLimitError         too many requests
    │   ├── ServerError            the endpoint failed (5xx)
    │   ├── RejectedRequestError   the endpoint rejects the request (4xx)
    │   │   ├── TooManyImagesError   more images in one request than it accepts
    │   │   └── ContextExceededError  more tokens than the model's context holds
    │   ├── UnreadableReplyError   the answer cannot be parsed
    │   │   └── TruncatedReplyError  the answer was cut off at the token limit
    │   ├── InvalidImageError      the response is not an image
    │   ├── UnalignedEditError     an edit changed everything outside its mask
    │   ├── OutOfMemoryError       the accelerator is out of memory
    │   └── RefusedError           the provider's filter rejects the content
    ├── StorageError               data could not be stored or read                   exit 1
    │   ├── DiskFullError          no space is left
    │   ├── ImageMissingError      a stored image is missing or damaged
    │   │   └── ImageDamagedError  a stored image is not what was written
    │   ├── CorruptStoreError      a database is damaged
    │   ├── MemoryUnavailableError  the Chroma server failed
    │   └── StoreVersionError      a database was written by another version
    ├── LimitReached               a limit ends the run                               exit 1
    │   ├── DeadlineReachedError   the run's time is used up
    │   ├── BudgetReachedError     another image would cost more than is left
    │   ├── RunDrainedError        its process is being stopped; it can be resumed
    │   └── RunCancelledError      somebody cancelled the run
    └── InternalError              a defect in GEMS                                     exit 1

Messages never contain secrets: texts of providers go through `gems.observability.redaction` first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

Fault = Literal["request", "configuration", "provider", "machine", "nobody", "gems"]


class GemsError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What is wrong, as one sentence.
        hint: What to do about it; by default the class's hint.

    Attributes:
        run_id: The run that can be resumed; empty if none was started.
    """

    run_id: str = ""
    fault: ClassVar[Fault] = "gems"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def _asdict(self) -> dict[str, str]:
        """Return the error for clients of LangGraph's server, which hides errors without this method."""
        return {"error": type(self).__name__, "message": str(self)}


class RequestError(GemsError):
    """The request is invalid."""

    fault = "request"
    exit_code = 2


class PromptError(RequestError):
    """The prompt is empty or too long."""


class OptionError(RequestError):
    """An option is out of range or contradicts another."""

    default_hint = "`gems run --help` lists the options."


class NotOfferedError(OptionError):
    """No generator or judge of this name is on offer; `offered` are the names that are."""

    def __init__(self, kind: str, name: str, offered: Iterable[str]) -> None:
        names = ", ".join(repr(each) for each in sorted(offered))
        there = f"On offer are {names}, and without a name the default." if names else "There is only the default."
        super().__init__(
            f"The {kind} {name[:80]!r} is not on offer.",
            hint=f"{there} GEMS_OFFERED_{kind.upper()}S sets what is; a run that began with what is gone goes on once "
            "it is back, or in a fork that names another.",
        )


class SizeError(RequestError):
    """The generator does not support this size."""


class EditingUnsupportedError(RequestError):
    """The generator cannot edit an image."""

    default_hint = "Use a generator with editing support."


class AnswerNeededError(RequestError):
    """A skill, or the loop with the option `ask`, asks a question; the run continues once it is answered.

    `question` is what was asked: a text, or a `gems.types.DecisionRequest`.
    """

    default_hint = "Answer with `gems resume RUN --answer TEXT`."
    question: Any = None


class RunNotFoundError(RequestError):
    """No run has this id."""

    default_hint = "`gems runs` lists the runs of this home."


class RunBusyError(RequestError):
    """Another process is working on this run."""

    default_hint = "Wait for it to finish, or cancel it first."


class ConfigurationError(GemsError):
    """The settings are invalid."""

    fault = "configuration"
    exit_code = 2
    default_hint = "See .env.example for each setting."


class ModelSpecError(ConfigurationError):
    """A model spec is invalid."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed: `what` needs it, `gems-agent[extra]` installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed.",
            hint=f"Install them with: pip install 'gems-agent[{extra}]'",
        )
        self.extra = extra


class ModelFilesError(ConfigurationError):
    """The model's files are missing or damaged."""


class SkillError(ConfigurationError):
    """A skill's folder or code cannot be used; runs continue without it, with a warning."""

    default_hint = "Run `gems skills validate DIR` for details."


class AuthenticationError(ConfigurationError):
    """The endpoint rejects the key."""

    default_hint = "Check the API key in the settings; `gems doctor` tests it."


class ModelUnavailableError(ConfigurationError):
    """The endpoint does not have this model, or the account may not use it."""

    default_hint = "Check the model's name and the account; `gems doctor` tests each model."


class BlindModelError(ConfigurationError):
    """The model cannot see images."""

    default_hint = "Use a model with vision, at least for GEMS_JUDGE__MODEL; `gems doctor` tests it."


class DataError(ConfigurationError):
    """A benchmark's data are missing, damaged, or of another version than the supported one."""

    default_hint = "Run `gems eval data` to see where each benchmark's data come from and check them."


class EmbedderMismatchError(ConfigurationError):
    """The store of experiences was filled by another embedder than the configured one."""

    default_hint = "Run `gems memory reindex` to embed everything again, or set GEMS_EMBEDDER to the other one."


class ProviderError(GemsError):
    """A model endpoint failed; `retry_after` are the seconds it asks to wait, if it says so."""

    fault: ClassVar[Fault] = "provider"
    default_hint = "Run `gems doctor` to test each model, then continue with `gems resume`."

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class UnreachableError(ProviderError):
    """No server answers at the address."""

    retryable = True


class ProviderTimeoutError(ProviderError):
    """No answer in time."""

    retryable = True
    default_hint = "If the server is only slow, raise GEMS_CHAT__TIMEOUT_S (for images GEMS_GENERATOR__TIMEOUT_S)."


class RateLimitError(ProviderError):
    """Too many requests."""

    retryable = True


class ServerError(ProviderError):
    """The endpoint failed (5xx)."""

    retryable = True


class RejectedRequestError(ProviderError):
    """The endpoint rejects the request; sending it again unchanged does not help.

    Attributes:
        refused: What it refuses, as in `gems.models.refusals`; empty if its words are not known.
    """

    def __init__(self, message: str, *, refused: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.refused = refused


class TooManyImagesError(RejectedRequestError):
    """More images in one request than the endpoint accepts, which is `limit` if it says so."""

    def __init__(self, message: str, *, limit: int | None = None) -> None:
        super().__init__(message, refused="image_count")
        self.limit = limit


class ContextExceededError(RejectedRequestError):
    """The request holds more tokens than the model's context."""

    default_hint = (
        "Raise the server's context: --max-model-len (vLLM), --context-length (SGLang), -c (llama.cpp), "
        "OLLAMA_CONTEXT_LENGTH (Ollama), or the context length at which LM Studio loads the model."
    )


class UnreadableReplyError(ProviderError):
    """The answer cannot be parsed: empty, or not what was asked for."""

    retryable = True


class TruncatedReplyError(UnreadableReplyError):
    """The answer was cut off at the token limit, after `limit` tokens if the endpoint says so."""

    default_hint = (
        "Raise GEMS_CHAT__MAX_TOKENS (or a role's own, such as GEMS_PLANNER__MAX_TOKENS) or the server's limit, or let "
        "the model think less."
    )

    def __init__(self, message: str, *, limit: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class InvalidImageError(ProviderError):
    """The response is not an image; the message quotes its first bytes."""

    retryable = True


class UnalignedEditError(ProviderError):
    """An edited image has nothing to do with its source outside the mask, so that nothing of it can be used."""

    default_hint = "Use a generator that keeps what it is not asked to change, or edit without a mask."


class OutOfMemoryError(ProviderError):
    """The accelerator is out of memory."""

    fault = "machine"
    default_hint = "Use a smaller size or fewer candidates, or set GEMS_GENERATOR__OFFLOAD=model."


class RefusedError(ProviderError):
    """The provider's filter rejects the content."""

    fault = "request"
    default_hint = "Reword the prompt, or use another model."


class StorageError(GemsError):
    """Data could not be stored or read."""

    fault = "machine"
    default_hint = "Check that GEMS_HOME exists, is writable and has free space."


class DiskFullError(StorageError):
    """No space is left."""

    default_hint = "Free some space or set GEMS_HOME to another disk, then continue with `gems resume`."


class ImageMissingError(StorageError):
    """A stored image is missing or damaged."""


class ImageDamagedError(ImageMissingError):
    """A stored image is not what was written."""

    default_hint = "Delete its file in GEMS_HOME/images; restore it from a backup if there is one."


class CorruptStoreError(StorageError):
    """A database is damaged."""


class MemoryUnavailableError(StorageError):
    """The Chroma server failed."""

    default_hint = "Check GEMS_EXPERIENCE and that the server is running."


class StoreVersionError(StorageError):
    """A database was written by another version of GEMS."""


class LimitReached(GemsError):  # noqa: N818 - a limit is not an error
    """A limit ends the run. Raised to a caller only if there is no image to return."""

    fault = "nobody"
    default_hint = "Continue with `gems resume`."


class DeadlineReachedError(LimitReached):
    """The run's time is used up."""


class BudgetReachedError(LimitReached):
    """Another image would cost more than is left."""


class RunDrainedError(LimitReached):
    """The process of the run is being stopped; everything done so far is stored."""

    default_hint = "Continue with `gems resume RUN`."


class RunCancelledError(LimitReached):
    """Somebody cancelled the run."""


class InternalError(GemsError):
    """A defect in GEMS; the cause is chained."""

    default_hint = "This is a bug: please report it with the traceback from the log."
