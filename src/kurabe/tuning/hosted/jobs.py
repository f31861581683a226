"""A job at a provider from its plan to its model. Every step is written down before and after it, so that a process
that dies at any moment is followed by one that goes on, and no file is sent and no job started twice."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from kurabe.errors import NotFoundError, ProviderError, TuningError
from kurabe.models.reference import parse_reference
from kurabe.tuning.hosted import record
from kurabe.tuning.hosted.base import Event, Service, Snapshot, Start, State, Steps, UnknownStateError
from kurabe.tuning.hosted.connection import Connection
from kurabe.tuning.hosted.plan import Plan
from kurabe.tuning.hosted.record import Job
from kurabe.tuning.hosted.services import service_of, title

READY_SECONDS = 3600.0
"""How long a provider may take to check an uploaded file."""
STALL_HOURS = 24.0

Told = Callable[[Job], None]


def begin(folder: Path, plan: Plan, connection: Connection, *, confirmed: bool) -> Job:
    """Send the file and start the job, or go on where an earlier process was cut off.

    Raises TuningError, before anything is sent, where the cost is not confirmed and no job was begun; for a job that
    failed or was cancelled before; ProviderError.
    """
    with record.locked(folder):
        job = record.read(folder)
        if job is None:
            if not confirmed:
                raise TuningError(f"{plan.describe()}. Nothing was sent, since the cost is not confirmed")
            job = Job(
                key=plan.key, name=record.new_name(), base=str(plan.base), made=record.now(), rows=plan.rows,
                tokens=plan.tokens, counted=plan.counted, settings=plan.settings, usd=plan.usd, options=plan.options,
                news=record.now(), base_url=connection.base_url,
            )  # fmt: skip
            record.write(folder, job)
        with _hiding(plan):
            if _over(job) and job.state is not State.SUCCEEDED:
                with suppress(ProviderError):  # what the provider says of it may not have been kept
                    job = _asked(folder, job, connection, plan)
            if _over(job) and job.state is not State.SUCCEEDED:
                raise TuningError(ended(job))
            return _Begin(folder, plan, connection, job).run()


@contextmanager
def _hiding(plan: Plan | None) -> Iterator[None]:
    """Errors of providers do not say what stands in the rows."""
    try:
        yield
    except ProviderError as error:
        if plan is not None:
            error.message, error.code = plan.hidden(error.message), plan.hidden(error.code)
            error.args = (error.message,)
        raise error.with_traceback(None) from None


class _Begin:
    """The steps up to a started job."""

    def __init__(self, folder: Path, plan: Plan, connection: Connection, job: Job) -> None:
        self.folder, self.plan, self.connection, self.job = folder, plan, connection, job
        self.service = service_of(plan.base, plan.options)

    def run(self) -> Job:
        job, service = self.job, self.service
        if job.job is not None:
            return job
        if job.file is None:
            name = job.file_name
            job.file = self._step(
                "upload", lambda: service.upload(name, self.plan.data), lambda: service.find_upload(name)
            )
            record.write(self.folder, job)
        self._await_file(job.file)
        start = Start(self.plan.base.name, job.file, job.name, job.settings)
        job.job = self._step("start", lambda: service.start(start), lambda: service.find_job(start))
        job.state = State.VALIDATING
        job.news = record.now()
        record.write(self.folder, job)
        return job

    def _step(self, name: str, act: Callable[[], Steps[str]], find: Callable[[], Steps[str | None]]) -> str:
        """An act that must not happen twice: it is written down that it begins, and where that is written already it
        is looked for first."""
        if name in self.job.begun:
            there = self.connection.run(find())
            if there is not None:
                return there
        else:
            self.job.begun.append(name)
            record.write(self.folder, self.job)
        return self.connection.once(act, find)

    def _await_file(self, file: str) -> None:
        until = time.monotonic() + READY_SECONDS
        policy = self.connection.policy
        wait = policy.first_look / 2
        while not self.connection.run(self.service.ready(file)):
            if time.monotonic() > until:
                raise TuningError(
                    f"{title(self.plan.base)} has not checked the uploaded file {file} within"
                    f" {READY_SECONDS / 60:.0f} minutes; run it again to go on, nothing is sent twice"
                )
            time.sleep(wait)
            wait = min(wait * 1.5, policy.longest_look)


def look(folder: Path, connection: Connection, plan: Plan | None = None) -> Job:
    """Ask how the job is, and keep what came. A job that is over is cleaned up: its file is deleted.

    Without a plan the rows are not at hand to be looked for in what the provider says, so its words are in what is
    returned and are not kept. Raises TuningError where there is no job, ProviderError.
    """
    with record.locked(folder):
        return _asked(folder, _known(folder), connection, plan)


def _asked(folder: Path, job: Job, connection: Connection, plan: Plan | None) -> Job:
    if job.job is None or (_over(job) and job.told and job.file_deleted):
        return job
    service = service_of(parse_reference(job.base), job.options)
    shown = job
    if not (_over(job) and job.told):
        try:
            seen = connection.run(service.look(job.job))
        except NotFoundError:
            raise TuningError(
                f"{title(parse_reference(job.base))} knows no job {job.job}: use the key that it was begun with, or,"
                f" where it is gone, `kurabe tune delete {job.key}` lets it be started anew"
            ) from None
        shown = _take(job, seen, service, plan)
        record.write(folder, job)
    if _over(job):
        _clean(folder, job, service, connection)
    return shown


def _over(job: Job) -> bool:
    return job.state is not None and job.state.final


def _take(job: Job, seen: Snapshot, service: Service, plan: Plan | None) -> Job:
    """Put what a provider says of a job into what is kept of it. Returns the job with the provider's words, which
    without a plan are not kept."""
    heard = len(seen.events) + len(seen.metrics)
    if seen.state is not job.state or heard != job.heard:
        job.news = record.now()
    if seen.state.final or not _over(job):  # what was cancelled may be said to go on for a while
        job.state = seen.state
    job.heard, job.told = heard, plan is not None
    job.metrics = list(seen.metrics) or job.metrics
    job.trained = seen.tokens if seen.tokens is not None else job.trained
    _take_model(job, seen, service)
    if plan is None:
        return msgspec.structs.replace(job, error=seen.error, events=list(seen.events))
    job.error, *texts = plan.hidden_all([seen.error, *(event.text for event in seen.events)])
    job.events = [Event(event.time, text) for event, text in zip(seen.events, texts, strict=True)]
    return job


def _take_model(job: Job, seen: Snapshot, service: Service) -> None:
    if seen.state is State.SUCCEEDED:
        if seen.model is None:
            raise TuningError(f"the job {job.job} has succeeded, and the provider names no tuned model")
        job.model = seen.model
        job.reference = service.reference(parse_reference(job.base), seen.model)


def _clean(folder: Path, job: Job, service: Service, connection: Connection) -> None:
    """Delete the uploaded file, where that was not done yet."""
    if job.file is not None and not job.file_deleted:
        with suppress(NotFoundError):
            connection.run(service.delete_upload(job.file))
        job.file_deleted = True
        record.write(folder, job)


def follow(
    folder: Path, connection: Connection, plan: Plan | None = None, *, stall_hours: float = STALL_HOURS,
    told: Told = lambda job: None,
) -> Job:  # fmt: skip
    """Look at the job until it has succeeded; `told` hears of each look.

    A job of which nothing new is heard for `stall_hours` is cancelled, unless it runs at a provider that says nothing
    of jobs that run. Raises TuningError where it failed, was cancelled or stalled; ProviderError.
    """
    wait = connection.policy.first_look
    while True:
        with _hiding(plan):
            job = look(folder, connection, plan)
        if plan is None:
            job = msgspec.structs.replace(job, error="")
        told(job)
        if job.state is State.SUCCEEDED:
            return job
        if _over(job):
            raise TuningError(ended(job))
        quiet = job.quiet_hours
        if quiet > stall_hours and (job.state is not State.RUNNING or _speaks(job)):
            cancel(folder, connection)
            raise TuningError(
                f"{title(parse_reference(job.base))} has said nothing new of the job {job.job} for {quiet:.0f} hours"
                f" (it was {job.state}): it is cancelled and its file deleted; `kurabe tune events {job.key}` shows how"
                f" far it was, and `kurabe tune delete {job.key}` lets it be started anew"
            )
        time.sleep(wait)
        wait = min(wait * 1.5, connection.policy.longest_look)


def _speaks(job: Job) -> bool:
    return service_of(parse_reference(job.base), job.options).speaks


def cancel(folder: Path, connection: Connection) -> Job:
    """Stop the job, where it is not over, and delete its file. Raises TuningError, ProviderError."""
    with record.locked(folder):
        job = _known(folder)
        service = service_of(parse_reference(job.base), job.options)
        if job.job is None:
            _recover(folder, job, service, connection)
        if job.job is not None and not _over(job):
            _cancel(job, job.job, service, connection)
        elif job.job is None:
            job.state = State.CANCELLED
        record.write(folder, job)
        _clean(folder, job, service, connection)
        return job


def _cancel(job: Job, name: str, service: Service, connection: Connection) -> None:
    with suppress(NotFoundError):  # then there is nothing to be stopped
        with suppress(UnknownStateError):  # what is not known can be stopped all the same
            _take(job, connection.run(service.look(name)), service, None)
        if _over(job):
            return
        connection.run(service.cancel(name))
    job.state = State.CANCELLED
    job.news = record.now()


def _recover(folder: Path, job: Job, service: Service, connection: Connection) -> None:
    """Look for what a process that was cut off may have left at the provider."""
    base = parse_reference(job.base)
    if job.file is None and "upload" in job.begun:
        job.file = connection.run(service.find_upload(job.file_name))
    if job.file is not None and "start" in job.begun:
        start = Start(base.name, job.file, job.name, job.settings)
        job.job = connection.run(service.find_job(start))
    record.write(folder, job)


def delete(folder: Path, connection: Connection) -> None:
    """Forget a job that is over, so that it can be started anew; one that is not over is cancelled first. The tuned
    model stays with the provider. Raises TuningError, ProviderError."""
    cancel(folder, connection)
    with record.locked(folder):
        (folder / record.NAME).unlink(missing_ok=True)


def _known(folder: Path) -> Job:
    job = record.read(folder)
    if job is None:
        raise TuningError(f"there is no job in {folder}")
    return job


def ended(job: Job) -> str:
    """What to say of a job that failed or was cancelled."""
    how = "was cancelled" if job.state is State.CANCELLED else "failed"
    error = job.error.strip().rstrip(".")
    where = f"{title(parse_reference(job.base))}'s job {job.job}" if job.job else "no job was started"
    return (
        f"the tuning of {job.base} ({where}) {how}{f': {error}' if error else ''}. `kurabe tune events"
        f" {job.key}` shows what the provider said; `kurabe tune delete {job.key}` lets it be started anew"
    )
