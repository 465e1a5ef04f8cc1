"""Every error GEMS raises on purpose, with whose fault it is and what to do.

    GemsError
    ├── RequestError               the request cannot be carried out as asked           exit 2
    │   ├── PromptError            the prompt is empty or too long
    │   ├── OptionError            an option is out of range
    │   ├── SizeError              the generator cannot draw this size
    │   ├── EditingUnsupportedError  the generator cannot edit an image
    │   ├── AnswerNeededError      a skill has asked something that a person must answer
    │   ├── RunNotFoundError       no run has this id
    │   └── RunBusyError           another process is working on this run
    ├── ConfigurationError         the settings do not fit together                     exit 2
    │   ├── ModelSpecError         a model spec is not understood
    │   ├── MissingExtraError      an optional dependency is not installed
    │   ├── ModelFilesError        the model's files are missing or damaged
    │   ├── SkillError             a skill's folder or code cannot be used
    │   ├── EmbedderMismatchError  the store of experiences was filled by another embedder
    │   ├── AuthenticationError    the endpoint does not accept the key
    │   ├── ModelUnavailableError  the endpoint lacks the model, or the account may not use it
    │   └── DataError              a benchmark's data are missing, damaged, or of another edition
    ├── ProviderError              a model endpoint did not do its part                 exit 1
    │   ├── UnreachableError       nothing answers at the address
    │   ├── ProviderTimeoutError   no answer in time
    │   ├── RateLimitError         too many requests
    │   ├── ServerError            the endpoint failed (5xx)
    │   ├── RejectedRequestError   the endpoint refuses the form of the request (4xx)
    │   │   └── TooManyImagesError   more images in one request than it takes
    │   ├── UnreadableReplyError   the answer cannot be read
    │   ├── InvalidImageError      what came is not an image
    │   ├── OutOfMemoryError       the accelerator's memory does not suffice
    │   └── RefusedError           the provider's filter refuses the content
    ├── StorageError               something could not be kept or found again           exit 1
    │   ├── DiskFullError          no space is left
    │   ├── ImageMissingError      a stored image is gone or damaged
    │   ├── CorruptStoreError      a database is damaged
    │   ├── MemoryUnavailableError  the Chroma server does not do its part
    │   └── StoreVersionError      a database was written by another version
    ├── LimitReached               not a fault: a limit of the run ends it              exit 1
    │   ├── DeadlineReachedError   the run's time is used up
    │   ├── BudgetReachedError     another image would cost more than is left
    │   ├── RunDrainedError        its process is being stopped; it goes on later
    │   └── RunCancelledError      somebody cancelled the run
    └── InternalError              a defect in GEMS                                     exit 1

Messages never carry secrets: what a provider sends goes through `gems.observability.redaction` first.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Fault = Literal["request", "configuration", "provider", "machine", "nobody", "gems"]

__all__ = [
    "AnswerNeededError",
    "AuthenticationError",
    "BudgetReachedError",
    "ConfigurationError",
    "CorruptStoreError",
    "DataError",
    "DeadlineReachedError",
    "DiskFullError",
    "EditingUnsupportedError",
    "EmbedderMismatchError",
    "Fault",
    "GemsError",
    "ImageMissingError",
    "InternalError",
    "InvalidImageError",
    "LimitReached",
    "MemoryUnavailableError",
    "MissingExtraError",
    "ModelFilesError",
    "ModelSpecError",
    "ModelUnavailableError",
    "OptionError",
    "OutOfMemoryError",
    "PromptError",
    "ProviderError",
    "ProviderTimeoutError",
    "RateLimitError",
    "RefusedError",
    "RejectedRequestError",
    "RequestError",
    "RunBusyError",
    "RunCancelledError",
    "RunDrainedError",
    "RunNotFoundError",
    "ServerError",
    "SizeError",
    "SkillError",
    "StorageError",
    "StoreVersionError",
    "TooManyImagesError",
    "UnreachableError",
    "UnreadableReplyError",
]


class GemsError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What was wrong, as one sentence.
        hint: What to do about it; the class's default where empty.

    Attributes:
        run_id: The run that can be resumed; empty where none was begun.
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
        """What LangGraph's server tells its clients; of errors without this it says that one occurred."""
        return {"error": type(self).__name__, "message": str(self)}


class RequestError(GemsError):
    """The request cannot be carried out as asked."""

    fault = "request"
    exit_code = 2


class PromptError(RequestError):
    """The prompt is empty or too long."""


class OptionError(RequestError):
    """An option is out of range or contradicts another."""

    default_hint = "`gems run --help` lists the options."


class SizeError(RequestError):
    """The generator cannot draw this size."""


class EditingUnsupportedError(RequestError):
    """The generator cannot edit an image."""

    default_hint = "Use a generator that can."


class AnswerNeededError(RequestError):
    """A skill has asked something; the run goes on once it is answered."""

    default_hint = "Answer with `gems resume RUN --answer TEXT`."


class RunNotFoundError(RequestError):
    """No run has this id."""

    default_hint = "`gems runs` lists the runs of this home."


class RunBusyError(RequestError):
    """Another process is working on this run."""

    default_hint = "Wait for it to finish, or end it first."


class ConfigurationError(GemsError):
    """The settings do not fit together."""

    fault = "configuration"
    exit_code = 2
    default_hint = "See .env.example for each setting."


class ModelSpecError(ConfigurationError):
    """A model spec is not understood."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed.

    Args:
        what: What needs it, for the message.
        extra: The extra of `gems-agent` that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed.",
            hint=f"Install them with: pip install 'gems-agent[{extra}]'",
        )
        self.extra = extra


class ModelFilesError(ConfigurationError):
    """The model's files are missing or damaged."""


class SkillError(ConfigurationError):
    """A skill's folder or code cannot be used; runs go on without it and say so."""

    default_hint = "`gems skills validate DIR` says what is wrong."


class AuthenticationError(ConfigurationError):
    """The endpoint does not accept the key."""

    default_hint = "Check the API key in the settings; `gems doctor` tries it."


class ModelUnavailableError(ConfigurationError):
    """The endpoint does not have this model, or the account may not use it."""

    default_hint = "Check the model's name and the account; `gems doctor` tries each model."


class DataError(ConfigurationError):
    """A benchmark's data are missing, damaged, or of another edition than the one that is read."""

    default_hint = "`gems eval data` says where each benchmark's data come from and checks what is there."


class EmbedderMismatchError(ConfigurationError):
    """The store of experiences was filled by another embedder than the one that is set."""

    default_hint = "`gems memory reindex` embeds everything anew; or set GEMS_EMBEDDER to the other one."


class ProviderError(GemsError):
    """A model endpoint did not do its part.

    Args:
        message: What the endpoint said.
        retry_after: Seconds the endpoint asks to wait, None where it does not say.
        hint: What to do about it; the class's default where empty.
    """

    fault: ClassVar[Fault] = "provider"
    default_hint = "`gems doctor` tries each model; `gems resume` goes on once it works."

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class UnreachableError(ProviderError):
    """Nothing answers at the address."""

    retryable = True


class ProviderTimeoutError(ProviderError):
    """No answer in time."""

    retryable = True


class RateLimitError(ProviderError):
    """Too many requests."""

    retryable = True


class ServerError(ProviderError):
    """The endpoint failed (5xx)."""

    retryable = True


class RejectedRequestError(ProviderError):
    """The endpoint refuses the form of the request (4xx); asking again changes nothing."""


class TooManyImagesError(RejectedRequestError):
    """More images in one request than the endpoint takes.

    Args:
        message: What the endpoint said.
        limit: How many it takes, None where it does not say.
    """

    def __init__(self, message: str, *, limit: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class UnreadableReplyError(ProviderError):
    """The answer cannot be read: empty, truncated, or not what was asked for."""

    retryable = True


class InvalidImageError(ProviderError):
    """What came is not an image; the message quotes its first bytes."""

    retryable = True


class OutOfMemoryError(ProviderError):
    """The accelerator's memory does not suffice."""

    fault = "machine"
    default_hint = "Ask for a smaller size or fewer candidates, or set GEMS_GENERATOR__OFFLOAD=model."


class RefusedError(ProviderError):
    """The provider's filter refuses the content."""

    fault = "request"
    default_hint = "Reword the prompt, or use another model."


class StorageError(GemsError):
    """Something could not be kept or found again."""

    fault = "machine"
    default_hint = "Check GEMS_HOME: does it exist, is it writable, is space left?"


class DiskFullError(StorageError):
    """No space is left."""

    default_hint = "Free some space or set GEMS_HOME to another disk, then `gems resume` the run."


class ImageMissingError(StorageError):
    """A stored image is gone or damaged."""


class CorruptStoreError(StorageError):
    """A database is damaged."""


class MemoryUnavailableError(StorageError):
    """The Chroma server does not do its part."""

    default_hint = "Check GEMS_EXPERIENCE and that the server runs."


class StoreVersionError(StorageError):
    """A database was written by another version of GEMS."""


class LimitReached(GemsError):  # noqa: N818 - not a fault, so not named an error
    """A limit of the run ends it. Raised to a caller only where there is no image to hand back."""

    fault = "nobody"
    default_hint = "`gems resume` goes on with the run."


class DeadlineReachedError(LimitReached):
    """The run's time is used up."""


class BudgetReachedError(LimitReached):
    """Another image would cost more than is left."""


class RunDrainedError(LimitReached):
    """The process that works on the run is being stopped; everything that was done is kept."""

    default_hint = "`gems resume RUN` goes on."


class RunCancelledError(LimitReached):
    """Somebody cancelled the run."""


class InternalError(GemsError):
    """A defect in GEMS; the cause is chained."""

    default_hint = "This is a defect: please report it with the traceback from the log."
