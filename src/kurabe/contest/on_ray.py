"""Contestants on a Ray cluster, seen from the run, which is its driver: each learns in one task of Ray and answers in
others, and the run keeps what comes.
"""

import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from kurabe.contest import ray_tasks
from kurabe.contest.clock import Clock
from kurabe.contest.executor import Learned
from kurabe.contest.prepare import Entrant, trained_path
from kurabe.contest.worker import Failed
from kurabe.contest.workers import FailedError, WorkerLostError, thread_limits
from kurabe.contestants import persist
from kurabe.contestants.base import PIECES, Answering, Learning, Prediction
from kurabe.contestants.trained.boosters import processors
from kurabe.errors import ContestantError, InputError, MissingExtraError, missing
from kurabe.tasks.task import Task

LOOK: Final = 0.1  # seconds between looks at whether the run is to end
PATIENCE: Final = 5.0  # seconds in which an address is to answer
LOOK_AT_NODES: Final = 5.0
LOST: Final = 300.0  # seconds that a task waits while no node could run it; a cluster may be about to grow
RETRIES: Final = 1  # of Ray itself, where a node or process is lost; the run begins such a contestant once more, too
CHUNK: Final = 256  # rows; fewer are not worth a task, which has to load the contestant
STORE: Final = 200 << 20  # bytes of memory for objects of a Ray that is started here; more go to its disk

_decoder: Final = msgspec.msgpack.Decoder(ray_tasks.Reply)
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How an HTTP/2 client begins, with empty settings: whoever talks gRPC answers with settings."""
_TOKEN: Final = secrets.token_hex(32)
"""What a Ray that is started here asks for; Ray keeps the first that it has read."""


@contextmanager
def connected(on: str) -> Iterator["Cluster | None"]:
    """The cluster that `on` names, for as long as the context lasts; None for `local`.

    `ray`: at RAY_ADDRESS, or else a Ray that is started here and ended; where this process is connected to a Ray
    already, that one. `ray:HOST:PORT`: the cluster that this machine is a node of. `ray://HOST:PORT`: one by Ray
    Client. Raises InputError for anything else, and where no Ray answers; MissingExtraError where it is not installed.
    """
    if on == "local":
        yield None
        return
    if on != "ray" and not on.startswith("ray:"):
        raise InputError(missing("executor", on, ["local", "ray", "ray:HOST:PORT", "ray://HOST:PORT"]))
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--on ray", "ray") from None
    if ray.is_initialized():
        if on != "ray":
            raise InputError(f"this process is connected to a Ray already: use it with on='ray', not {on!r}")
        yield Cluster(ray)
        return
    address = os.environ.get("RAY_ADDRESS", "local") if on == "ray" else on if on.startswith("ray://") else on[4:]
    with _own_token() if address == "local" else _answering(address):
        _connect(ray, address)
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster, or start one here. Raises InputError."""
    local: dict[str, Any] = {}
    variables: dict[str, str] = {}
    if address == "local":
        local = {"num_cpus": processors(), "include_dashboard": False, "object_store_memory": STORE}
        variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        # Ray would have its processes import from the current folder, which may be a stranger's: from an empty one.
        with tempfile.TemporaryDirectory() as empty:
            ray.init(
                address=address,
                runtime_env={"working_dir": empty, "env_vars": variables},
                log_to_driver=bool(os.environ.get("KURABE_DEBUG")),
                configure_logging=False,
                logging_level="ERROR",
                **local,
            )
    except Exception as error:  # Ray raises many kinds
        ray.shutdown()
        where = "Ray can't be started here" if address == "local" else f"no Ray can be used at {address}"
        raise InputError(f"{where}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}") from error


@contextmanager
def _own_token() -> Iterator[None]:
    """Have a Ray that is started here obey this process alone, since it listens to the network, and not report its use
    to its makers. Of itself, Ray would write a token into the user's folder for anybody to read."""
    own = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        own["RAY_AUTH_TOKEN"] = _TOKEN
    before = {name: os.environ.get(name) for name in (*own, "RAY_AUTH_MODE")}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _forget_token()


def _forget_token() -> None:
    """Have Ray read anew whether there is a token, or this process could not connect to a cluster without one."""
    with suppress(ImportError, AttributeError):  # it is no part of Ray's interface
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Raise InputError where nobody at an address talks as Ray does: Ray itself would try for two minutes."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise InputError(f"the address of a Ray is HOST:PORT, such as 10.0.0.5:6379, not {address!r}")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as connection:
                heard = True
                if os.environ.get("RAY_USE_TLS") != "1":
                    connection.sendall(_PREFACE)
                    first = connection.recv(9)
                    heard = len(first) > 3 and first[3] == 4
        except OSError as error:
            raise InputError(f"no Ray answers at {address}: {error.strerror or error}") from None
        if not heard:
            raise InputError(f"no Ray answers at {address}, but something else")
    yield


class Cluster:
    """The Ray that this process is connected to."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    @property
    def cores(self) -> int:
        """Processor cores of all nodes; 1 where there are none yet."""
        return max(1, sum(self.nodes()))

    def place(self, task: Task, told: bytes, count: int) -> "OnRay":
        """A place where so many contestants learn at the same time. `told`: of `packed`."""
        # as many cores each as any node has, so that it can run wherever nodes are lost
        threads = max(1, min([self.cores // count, *self.nodes()]))
        return OnRay(self._ray, self, task, told, threads)

    def nodes(self) -> list[int]:
        """The cores of each node that has some."""
        cores = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
        return [count for count in cores if count]


class OnRay:
    """Has contestants of a task learn and answer on the nodes of a cluster, each task of Ray with so many threads."""

    def __init__(self, ray: Any, cluster: Cluster, task: Task, told: bytes, threads: int) -> None:
        self.task = task
        self._ray, self._cluster, self._threads = ray, cluster, threads
        self._told = ray.put(told)
        options = {
            "num_cpus": threads,
            "max_retries": RETRIES,
            "runtime_env": {"env_vars": thread_limits(threads)},
        }
        self._learn = ray.remote(**options)(ray_tasks.learn)
        self._answer = ray.remote(**options)(ray_tasks.answer)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._under_way: list[Any] = []

    def executor(self, entrant: Entrant, clock: Clock) -> "InRay":
        """As `Place.executor`."""
        return InRay(entrant, self, clock)

    def kill(self) -> None:
        """As `Place.kill`."""
        self._over.set()

    def close(self) -> None:
        """As `Place.close`."""
        self.kill()
        with self._lock:
            self._cancel(self._under_way)

    def learned(self, entrant: Entrant, clock: Clock) -> ray_tasks.Fitted:
        """What came of having a contestant learn."""
        asked = self._learn.remote(self._told, entrant.label, entrant.key)
        reply = next(iter(self._replies([asked], clock)))[1]
        assert isinstance(reply, ray_tasks.Fitted)
        return reply

    def answered(
        self, entrant: Entrant, files: dict[str, bytes], chunks: Sequence[Sequence[int]], piece: int, clock: Clock
    ) -> Iterator[tuple[int, ray_tasks.Answered]]:
        """What a trained contestant answered to chunks of rows, as it comes, each with the chunk's number. `piece`: how
        many rows are asked at a time."""
        kept = self._ray.put(files)
        asked = [self._answer.remote(self._told, entrant.label, entrant.key, kept, list(one), piece) for one in chunks]
        for one, reply in self._replies(asked, clock):
            assert isinstance(reply, ray_tasks.Answered)
            yield asked.index(one), reply

    def _replies(self, asked: Sequence[Any], clock: Clock) -> Iterator[tuple[Any, ray_tasks.Reply]]:
        """Replies as they come. Raises OutOfTimeError, and whatever `_reply` does; what is under way is ended then."""
        left = list(asked)
        with self._lock:
            self._under_way += asked
        able = looked = time.monotonic()
        try:
            while left:
                if self._over.is_set():
                    raise WorkerLostError("the run has ended")
                clock.check()
                if (now := time.monotonic()) > looked + LOOK_AT_NODES:
                    looked = now
                    able = now if max(self._cluster.nodes(), default=0) >= self._threads else able
                    if now > able + LOST:
                        raise WorkerLostError("Ray has had no node that could run it for five minutes")
                ready, left = self._ray.wait(left, timeout=LOOK)
                for one in ready:
                    yield one, self._reply(one)
        finally:
            with self._lock:
                self._cancel(left)
                self._under_way = [one for one in self._under_way if one not in asked]

    def _cancel(self, asked: Sequence[Any]) -> None:
        for one in asked:
            with suppress(Exception):  # the cluster may be gone
                self._ray.cancel(one, force=True)

    def _reply(self, asked: Any) -> ray_tasks.Reply:
        """What a task gave. Raises WorkerLostError where its process, its node or the cluster was lost, and FailedError
        where the contestant failed."""
        errors = self._ray.exceptions
        try:
            reply: ray_tasks.Reply = _decoder.decode(self._ray.get(asked))
        except errors.OutOfMemoryError:
            raise WorkerLostError("Ray ended its process for lack of memory") from None
        except errors.RayTaskError as error:
            said = str(error).strip().splitlines()[-1]
            raise ContestantError(f"a node of Ray can't run it; it needs the kurabe that runs here: {said}") from None
        except (errors.RayError, ConnectionError) as error:
            raise WorkerLostError(f"Ray lost its process or its node ({type(error).__name__})") from None
        if isinstance(reply, Failed):
            raise FailedError(reply)
        return reply


class InRay:
    """Has a contestant learn and answer on a cluster. What it learned lies in the task's folder as always."""

    def __init__(self, entrant: Entrant, place: OnRay, clock: Clock) -> None:
        self._entrant, self._place, self._clock = entrant, place, clock
        self._folder = trained_path(place.task.folder, entrant.key)
        self._files: dict[str, bytes] | None = None
        self._fitted: ray_tasks.Fitted | None = None
        self.peak: int | None = None

    def learn(self, context: Learning) -> Learned:
        """As `Executor.learn`."""
        said = []
        if self._folder.exists():
            try:
                persist.load(self._folder, self._entrant.estimator, self._place.task.allow_code)
                self._files = persist.read(self._folder)
                return Learned(None, {})
            except ContestantError as error:
                said.append(f"{self._entrant.label}: {error}; fitting anew")
        context.tell("")
        self._fitted = self._place.learned(self._entrant, self._clock)
        self._files, self.peak = self._fitted.files, self._fitted.peak
        return msgspec.structs.replace(self._fitted.learned, said=tuple(said))

    def keep(self) -> str | None:
        """As `Executor.keep`."""
        assert self._fitted is not None
        if self._files is None:
            return self._fitted.reason
        try:
            persist.keep(self._files, self._folder, self._entrant.estimator)
        except ContestantError as error:
            return str(error)
        return None

    def answer(self, left: Sequence[int], context: Answering) -> Iterator[list[Prediction]]:
        """As `Executor.answer`."""
        if self._files is None:
            assert self._fitted is not None
            places = {position: place for place, position in enumerate(left)}
            answers = [one for one in self._fitted.answers if one.row in places]
            yield [msgspec.structs.replace(one, row=places[one.row]) for one in answers]
            return
        piece = max(1, -(-len(left) // PIECES))  # as in other places: sums of other lengths differ in the last digit
        size = piece * -(-CHUNK // piece)
        starts = range(0, len(left), size)
        chunks = [left[start : start + size] for start in starts]
        for number, reply in self._place.answered(self._entrant, self._files, chunks, piece, self._clock):
            self.peak = max(self.peak or 0, reply.peak)
            yield [msgspec.structs.replace(one, row=one.row + starts[number]) for one in reply.answers]

    def close(self) -> None:
        """As `Executor.close`."""
        self._files = self._fitted = None
