"""What tuning at a provider is: our values to requests, and a provider's answers back to our values. No sockets.

A service's acts are generators: they yield what is to be asked, are sent the answer's bytes, and return what came of
it. So an act may take several requests, or several hosts, and is tested without a network.
"""

from collections.abc import Generator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, TypeVar

import msgspec

from kurabe.errors import ProviderError
from kurabe.messages import Message
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.reference import Reference
from kurabe.tuning.settings import Count, Positive

T = TypeVar("T")


class State(StrEnum):
    """Where a job is. The last three are final."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Event(msgspec.Struct, frozen=True):
    """What a provider says of a job. `time` is ISO 8601 in UTC, '' where the provider gives none."""

    time: str
    text: str


class Metric(msgspec.Struct, frozen=True):
    """The loss of the training rows at a step, as the provider computes it."""

    step: int
    loss: float


Epochs = Annotated[int, msgspec.Meta(ge=1, le=100)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Settings(msgspec.Struct, frozen=True):
    """How a provider is to train. None: as the provider thinks best, or not offered there.

    `learning_rate_multiplier` is in terms of the provider's own rate; `learning_rate` is the rate itself. A service
    takes one of them at most.
    """

    epochs: Epochs = 3
    batch_size: Count | None = None
    learning_rate_multiplier: Positive | None = None
    learning_rate: Positive | None = None
    rank: Count | None = None
    seed: Seed | None = None


class Row(msgspec.Struct, frozen=True):
    """A conversation and the answer that is learned. Shows itself to nobody."""

    messages: tuple[Message, ...]
    answer: str

    def __repr__(self) -> str:
        return f"Row({len(self.messages)} messages)"


class Limits(msgspec.Struct, frozen=True):
    """What a provider takes: rows at least and at most, tokens a row at most, bytes of the file at most."""

    rows: int = 10
    most_rows: int | None = None
    tokens: int = 65_536
    size: int = 512_000_000
    system: bool = True
    """Whether a row may begin with a system message."""


class Start(msgspec.Struct, frozen=True):
    """A job to be started: the base model, the uploaded file, and a name that no other job has."""

    model: str
    file: str
    name: str
    settings: Settings


class Snapshot(msgspec.Struct, frozen=True):
    """A job as the provider describes it now. `model` is the tuned model's name, once there is one."""

    state: State
    model: str | None = None
    error: str = ""
    tokens: int | None = None
    """Tokens that were paid for."""
    events: tuple[Event, ...] = ()
    metrics: tuple[Metric, ...] = ()


class Ask(msgspec.Struct, frozen=True):
    """One request of an act. `place`: '' for the provider's API, else a name of `Service.places`.

    `again`: whether it may be sent twice, since the second time changes nothing.
    """

    request: HttpRequest
    place: str = ""
    again: bool = True

    def __repr__(self) -> str:  # its body may hold rows
        return f"Ask({self.request.method} {self.request.path}, {len(self.request.body):,} bytes)"


class UnknownStateError(ProviderError):
    """The provider calls the state of a job by a word that is not known here."""

    what = "has the tuning job in a state that kurabe does not know"
    next_step = (
        "The job goes on there, and nothing is lost: run the same command again later, or look with `kurabe tune"
        " status`; the provider's own list of jobs says more, and `kurabe tune cancel` stops it."
    )


def state_in(states: Mapping[str, State], said: str) -> State:
    """The state that a provider means. Raises UnknownStateError."""
    if said not in states:
        raise UnknownStateError(repr(said))
    return states[said]


Steps = Generator[Ask, bytes, T]


class Service:
    """Tuning at one provider, told of `needs`. Methods that read bytes raise nothing but ProviderError."""

    limits: ClassVar[Limits] = Limits()
    settings: ClassVar[frozenset[str]] = frozenset()
    """The fields of Settings that the provider takes, beside `epochs`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What the provider has to be told besides: a bucket, a role."""
    speaks: ClassVar[bool] = True
    """Whether a job that runs is heard of, by events or metrics."""
    base_url: ClassVar[str] = ""
    """Where jobs are, with `{options}` of the provider, if not where the models are."""
    places: ClassVar[dict[str, tuple[str, str]]] = {}
    """(address, AWS service that signs or '') of what else is asked, by its name in `Ask.place`."""

    def __init__(self, options: Mapping[str, str] = {}) -> None:
        self.options = dict(options)

    def row_limit(self, model: str) -> int:
        """Tokens that a row may have."""
        return self.limits.tokens

    def write(self, rows: Sequence[Row]) -> bytes:
        """The file of the rows."""
        raise NotImplementedError

    def upload(self, name: str, data: bytes) -> Steps[str]:
        """Send the file; returns what the provider calls it."""
        raise NotImplementedError

    def find_upload(self, name: str) -> Steps[str | None]:
        """What the provider calls a file that was sent under this name, or None where it has none."""
        raise NotImplementedError

    def ready(self, file: str) -> Steps[bool]:
        """Whether a job can use the file now. Raises BadRequestError where the provider refuses the file."""
        return True
        yield

    def start(self, job: Start) -> Steps[str]:
        """Start a job; returns what the provider calls it."""
        raise NotImplementedError

    def find_job(self, job: Start) -> Steps[str | None]:
        """What the provider calls a job that was started so, or None where it has none."""
        raise NotImplementedError

    def look(self, job: str) -> Steps[Snapshot]:
        """The job as it is now, with all events and metrics."""
        raise NotImplementedError

    def cancel(self, job: str) -> Steps[None]:
        """Stop the job."""
        raise NotImplementedError

    def delete_upload(self, file: str) -> Steps[None]:
        """Delete the uploaded file. Raises NotFoundError where it is gone."""
        raise NotImplementedError

    def reference(self, base: Reference, model: str) -> str:
        """The tuned model's reference."""
        return str(msgspec.structs.replace(base, name=model))

    def tuned_name(self, base: str) -> str:
        """What a tuned model might be called, as far as a list of prices could know it by its name."""
        return "kurabe"

    def note(self, base: Reference, model: str) -> str:
        """What is still to be done before the tuned model answers, '' where nothing is."""
        return ""
