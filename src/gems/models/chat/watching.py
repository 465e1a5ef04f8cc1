"""A chat model whose answers are watched, for whoever wants to know more than the nodes say."""

from __future__ import annotations

from collections.abc import Callable

from gems.errors import ProviderError
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import ChatReply, Question
from gems.types import Usage


class WatchedClient(ChatClient):
    """A client that remembers what it was paid and what it could not answer.

    Nodes go on where a model does not answer, and skills of others may do so without a word.

    Args:
        client: Does the asking; its limits hold for all that watch it together.

    Attributes:
        spent: What each answer consumed.
        faults: Why there was no usable answer, once per question.
    """

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client.model, name=client.name, limits=client.limits)
        self._client = client
        self.spent: list[Usage] = []
        self.faults: list[str] = []

    async def ask(self, question: Question, on_usage: Callable[[Usage], None] | None = None) -> ChatReply:
        """See `ChatClient.ask`."""

        def take(usage: Usage) -> None:
            self.spent.append(usage)
            if on_usage is not None:
                on_usage(usage)

        try:
            return await self._client.ask(question, take)
        except ProviderError as error:
            self.faults.append(str(error))
            raise
