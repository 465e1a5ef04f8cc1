"""A small OpenAI-compatible server of our own that can be told to misbehave."""

from tests.support.stub.faults import Fault
from tests.support.stub.records import Recorded
from tests.support.stub.server import StubServer

__all__ = ["Fault", "Recorded", "StubServer"]
