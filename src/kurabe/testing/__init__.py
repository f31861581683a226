"""For tests of what stands on top of a model: models that answer by script, and a simulator of each provider.

with Simulator("anthropic", answer="Hello!", faults=[Fault.status(529)]) as server:
    assert server.open("claude-sonnet-5-5").complete("Hi") == "Hello!"  # after one retry
    assert server.calls == 2
"""

from kurabe.testing.faults import Fault
from kurabe.testing.models import EchoModel, ScriptedModel
from kurabe.testing.simulator import Simulator
from kurabe.testing.tuning import Tuning
from kurabe.testing.wire.base import Call

__all__ = ["Call", "EchoModel", "Fault", "ScriptedModel", "Simulator", "Tuning"]
