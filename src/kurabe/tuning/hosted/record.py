"""What is known of a job on this machine: one JSON file, written before and after everything that changes something at
the provider, so that another process goes on where this one was cut off, and nothing is sent or started twice."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import filelock
import msgspec
from platformdirs import user_data_path

from kurabe.errors import TuningError, missing
from kurabe.tuning.durable import write_bytes
from kurabe.tuning.hosted.base import Event, Metric, Settings, State

NAME = "job.json"
LOCK_SECONDS = 120.0


class Job(msgspec.Struct):
    """A job. No row and no key is in it. Times are ISO 8601 in UTC.

    `name`: what the job is called at the provider, another one each time that it is started anew. `begun`: acts that
    may have reached the provider. `file` and `job` are what the provider calls them. `news`: when the state, the events
    or the metrics last changed, and `heard` how many of these there were. `usd` is the estimate that was confirmed,
    None where it is not known; `trained` the tokens that the provider counted. `told`: whether `error` and `events` are
    what the provider said last, without what stands in the rows; only where the rows are at hand can they be kept so.
    """

    key: str
    name: str
    base: str
    made: str
    rows: int
    tokens: int
    counted: str
    settings: Settings
    usd: float | None
    options: dict[str, str] = {}
    """What the service was told besides: a bucket, a role."""
    base_url: str | None = None
    """Where the provider is, if not at its own address."""
    begun: list[str] = []
    file: str | None = None
    file_deleted: bool = False
    job: str | None = None
    state: State | None = None
    model: str | None = None
    reference: str | None = None
    error: str = ""
    trained: int | None = None
    events: list[Event] = []
    metrics: list[Metric] = []
    news: str = ""
    heard: int = 0
    told: bool = False

    @property
    def quiet_hours(self) -> float:
        """How long ago the last news were, in hours."""
        return (datetime.fromisoformat(now()) - datetime.fromisoformat(self.news)).total_seconds() / 3600

    @property
    def file_name(self) -> str:
        """What the uploaded file is called, by which it is found again."""
        return f"kurabe-{self.key}.jsonl"


def new_name() -> str:
    """A job's name. Providers refuse the name of an earlier job, or give that job for it; Mistral takes 18 characters
    at most."""
    return f"kurabe-{secrets.token_hex(4)}"


def now() -> str:
    """The time as the record keeps it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read(folder: Path) -> Job | None:
    """The job of a folder, None without a job. Raises TuningError where its file is damaged."""
    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TuningError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return msgspec.json.decode(data, type=Job)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TuningError(
            f"{path} is damaged ({error}), and a job that costs money may be behind it: look at the provider's list of"
            " jobs, then remove the file"
        ) from None


def write(folder: Path, job: Job) -> None:
    """Keep the job durably. Raises TuningError where the disk is full."""
    write_bytes(folder / NAME, msgspec.json.format(msgspec.json.encode(job)))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time changes a job. The lock goes with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "lock", timeout=LOCK_SECONDS)
        lock.acquire()
    except filelock.Timeout:
        raise TuningError(
            f"another process is at work on the job in {folder}; wait for it to end, or stop it"
        ) from None
    except OSError as error:
        raise TuningError(f"cannot write to {folder}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def found(root: Path) -> tuple[list[tuple[Path, Job]], list[tuple[Path, TuningError]]]:
    """(folder, job) of every job below `root`, the newest first, and (folder, what to say of it) of each whose file
    cannot be read."""
    jobs, broken = [], []
    for path in sorted(root.glob(f"*/{NAME}")):
        try:
            job = read(path.parent)
        except TuningError as error:
            broken.append((path.parent, error))
            continue
        if job is not None:
            jobs.append((path.parent, job))
    return sorted(jobs, key=lambda pair: pair[1].made, reverse=True), broken


def jobs_root() -> Path:
    """Where this user's jobs are kept, whatever folder a task lies in: KURABE_JOBS, or the user's data folder. It is no
    part of a task, since what was paid for must not go with a folder that is deleted."""
    override = os.environ.get("KURABE_JOBS")
    return Path(override) if override else user_data_path("kurabe", appauthor=False) / "tuned"


def named(root: Path, name: str) -> tuple[Path, Job]:
    """(folder, job) of the job whose key, or whose name at the provider, begins so. Raises TuningError."""
    jobs, broken = found(root)
    meant = [(folder, job) for folder, job in jobs if job.key.startswith(name) or (job.job or "") == name]
    unread = [(folder, error) for folder, error in broken if folder.name.startswith(name)]
    if len(meant) + len(unread) > 1:
        listed = [folder.name for folder, _ in (*meant, *unread)]
        raise TuningError(f"{name!r} begins the names of several jobs: {', '.join(listed)}")
    if unread:
        raise unread[0][1]
    if not meant:
        raise TuningError(missing("job", name, [job.key for _, job in jobs]))
    return meant[0]
