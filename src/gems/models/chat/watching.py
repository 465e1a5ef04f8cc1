"""Chat client that records usage and errors."""

from __future__ import annotations

from collections.abc import Callable

from gems.errors import ProviderError
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import ChatReply, Question
from gems.types import Usage


class RecordingClient(ChatClient):
    """Forwards questions to `client` and records the usage of each reply and one error per failed question.

    Nodes and third-party skills may continue silently after such errors. All recording clients of one
    client share its limits.
    """

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client.model, name=client.name, limits=client.limits)
        self._client = client
        self.usages: list[Usage] = []
        self.errors: list[str] = []

    async def ask(self, question: Question, on_usage: Callable[[Usage], None] | None = None) -> ChatReply:
        """Ask the wrapped client and record usage and errors."""

        def record(usage: Usage) -> None:
            self.usages.append(usage)
            if on_usage is not None:
                on_usage(usage)

        try:
            return await self._client.ask(question, record)
        except ProviderError as error:
            self.errors.append(str(error))
            raise
