"""Runs as a LangChain `Runnable`, for LangServe: the runs go on in the hub, whoever listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, adispatch_custom_event
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list
from langchain_core.runnables.utils import ConfigurableFieldSpec
from langserve import CustomUserType
from pydantic import BaseModel

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.schemas import RunAnswer, RunRequest, told_event
from gems.apps.serving.beginning import attach, begin
from gems.errors import InternalError
from gems.events import Finished

ASKED = "__gems_asked"
"""Where a request's `Asked` stands among what is configurable; LangChain keeps such names to itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who sends a request, and to which server.

    Attributes:
        service: The server's.
        caller: Whoever sent it.
        run_id: The run it is about, where that is known already; one is begun otherwise.
    """

    service: Service
    caller: Caller
    run_id: str = ""


class RunInput(RunRequest, CustomUserType):
    """A run that is asked for; LangServe hands it on as it is."""


class GemsRunnable(Runnable[RunInput | dict[str, Any], dict[str, Any]]):
    """Draws a prompt.

    A stream tells what the run tells; its last part is what `ainvoke` returns.
    """

    name = "gems"

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The thread id: a run of one's own to hear of again."""
        return [
            ConfigurableFieldSpec(
                id="thread_id",
                annotation=str,
                name="Run",
                description="A run to listen to again, and to go on with where it was interrupted; left out, "
                "a run is begun.",
                default="",
            )
        ]

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """What is asked for."""
        return RunInput

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """What comes back."""
        return RunAnswer

    def invoke(self, *_: Any, **__: Any) -> dict[str, Any]:
        """There is none.

        Raises:
            InternalError: always.
        """
        raise InternalError("Runs need an event loop.", hint="Use ainvoke.")

    async def ainvoke(
        self,
        input: RunInput | dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Carry out a run to its end."""
        return await self._acall_with_config(self._result, _plain(input), config, **kwargs)

    async def abatch(
        self,
        inputs: list[RunInput | dict[str, Any]],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Carry out several runs, as many at a time as the caller may."""
        configs = get_config_list(config, len(inputs))
        for each in configs:
            key = _asked(each).caller.key
            if key is not None:
                each["max_concurrency"] = key.runs_at_a_time
        return await super().abatch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    async def astream(
        self,
        input: RunInput | dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """What a run tells, and its result in the end."""

        async def given() -> AsyncIterator[RunInput | dict[str, Any]]:
            yield _plain(input)

        parts = self._atransform_stream_with_config(given(), self._parts, ensure_config(config), **kwargs)
        async for part in parts:
            yield part

    async def _result(
        self,
        asked_for: RunInput | dict[str, Any],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002 - LangChain's signature
        config: RunnableConfig,
    ) -> dict[str, Any]:
        asked = _asked(config)
        result = await asked.service.hub.result(await _run(asked, asked_for, config))
        return RunAnswer.of(result).model_dump(mode="json")

    async def _parts(
        self,
        given: AsyncIterator[RunInput | dict[str, Any]],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002 - LangChain's signature
        config: RunnableConfig,
    ) -> AsyncIterator[dict[str, Any]]:
        asked = _asked(config)
        async for asked_for in given:
            run_id = await _run(asked, asked_for, config)
            async with aclosing(asked.service.hub.watch(run_id)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        yield RunAnswer.of(event.result).model_dump(mode="json")
                        return
                    told = told_event(event)
                    await adispatch_custom_event(f"gems.{event.type}", told, config=config)
                    yield told


def _plain(given: RunInput | dict[str, Any]) -> dict[str, Any]:
    """The same as a dictionary, which callbacks can be told."""
    return given.given() if isinstance(given, RunInput) else given


def requests_in(body: dict[str, Any]) -> Sequence[RunRequest]:
    """What a body asks for.

    Raises:
        ValidationError: it does not.
    """
    inputs = body["inputs"] if "inputs" in body else [body.get("input")]
    return [RunRequest.model_validate(one) for one in inputs]


def _asked(config: RunnableConfig) -> Asked:
    asked = (config.get("configurable") or {}).get(ASKED)
    if not isinstance(asked, Asked):
        raise InternalError("It is not known whose request this is.", hint="It is made to be served.")
    return asked


async def _run(asked: Asked, asked_for: RunInput | dict[str, Any], config: RunnableConfig) -> str:
    """The run that a request is about."""
    if asked.run_id:
        return asked.run_id
    request = RunRequest.model_validate(asked_for)
    return await run_for(asked, request, (config.get("configurable") or {}).get("thread_id"))


async def run_for(asked: Asked, request: RunRequest, thread_id: str | None) -> str:
    """Begin a run, or see to it that the one of a thread goes on; returns its id."""
    if thread_id:
        return await attach(asked.service, asked.caller, thread_id, request.prompt)
    return await begin(asked.service, asked.caller, request)
