"""A small OpenAI-compatible server of our own that can be told to misbehave."""

from tests.stub.faults import Fault
from tests.stub.recording import Recorded
from tests.stub.server import StubServer

__all__ = ["Fault", "Recorded", "StubServer"]
