"""Fine-tuning as providers offer it, for the simulator: files, and jobs whose states go on with every look at them."""

import re
from collections.abc import Sequence
from email import message_from_bytes
from typing import Any, ClassVar

import msgspec

from kurabe.testing.wire.base import Call, Refused

STATES = ("validating_files", "queued", "running", "running", "succeeded")
BORN = 1_700_000_000


class SimulatedJob(msgspec.Struct):
    """A job, as the request that started it described it; `looks`: how often it was asked for."""

    id: str
    body: Any
    file: str
    states: list[str]
    looks: int = 0
    cancelled: str = ""
    """The provider's word, once it was cancelled."""

    @property
    def state(self) -> str:
        """Where it is now."""
        return self.cancelled or self.states[min(self.looks, len(self.states) - 1)]


class Tuning:
    """The files and jobs of a simulated provider, OpenAI's where it is no subclass. Every look at a job moves it to the
    next of `states`, in the provider's words; the last one stays. `error` is what a failed job says."""

    usual: ClassVar[tuple[str, ...]] = STATES
    pattern: ClassVar[str] = r"/(files|fine_tuning)(/|$)"
    """What addresses of tuning look like."""

    def __init__(self, states: Sequence[str] = (), error: str = "The training file has invalid rows.") -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        """(name, content) by id."""
        self.deleted: list[str] = []
        self.jobs: dict[str, SimulatedJob] = {}
        self.uploads: list[str] = []
        """The names of all files that ever came, in order."""
        self.states = list(states or self.usual)
        self.error = error

    def speaks(self, call: Call) -> bool:
        """Whether the call is about tuning."""
        return re.search(self.pattern, call.path) is not None

    def answer(self, call: Call) -> Any:
        """The answer as a JSON value. Raises Refused."""
        parts = re.sub(r".*?/(files|fine_tuning)(/|$)", r"\1/", call.path).strip("/").split("/")
        if parts[0] == "files":
            return self._files(call, parts[1:])
        return self._jobs(call, parts[2:])

    def _files(self, call: Call, rest: list[str]) -> Any:
        if call.method == "POST":
            return self._upload(call)
        if not rest:
            listed = [_file(id, *self.files[id]) for id in reversed(self.files)]
            return _page(listed, call)
        if rest[0] not in self.files:
            raise Refused(404, f"No such File object: {rest[0]}")
        if call.method == "DELETE":
            del self.files[rest[0]]
            self.deleted.append(rest[0])
            return {"id": rest[0], "object": "file", "deleted": True}
        return _file(rest[0], *self.files[rest[0]])

    def _upload(self, call: Call) -> Any:
        parts = form(call)
        if parts["purpose"][1] != b"fine-tune":
            raise Refused(400, "Invalid value for 'purpose'.")
        name, data = parts["file"]
        id = f"file-{len(self.uploads)}"
        self.uploads.append(name)
        self.files[id] = (name, data)
        return _file(id, name, data)

    def _jobs(self, call: Call, rest: list[str]) -> Any:
        if call.method == "POST" and not rest:
            body = call.json
            if body["training_file"] not in self.files:
                raise Refused(400, f"File {body['training_file']} does not exist.")
            return self._job(self._new(body, body["training_file"], f"ftjob-{len(self.jobs)}"))
        if not rest:
            return _page([self._job(job) for job in reversed(self.jobs.values())], call)
        job = self._known(rest[0])
        if rest[1:] == ["cancel"]:
            if job.state in ("succeeded", "failed", "cancelled"):
                raise Refused(400, f"Job is {job.state}.")
            job.cancelled = "cancelled"
        elif rest[1:] == ["events"]:
            return _page(list(reversed(_events(job))), call)
        else:
            shown = self._job(job)
            job.looks += 1
            return shown
        return self._job(job)

    def _new(self, body: Any, file: str, id: str) -> SimulatedJob:
        """A job that was just started."""
        job = self.jobs[id] = SimulatedJob(id, body, file, list(self.states))
        return job

    def _known(self, id: str) -> SimulatedJob:
        if id not in self.jobs:
            raise Refused(404, f"No such job: {id}")
        return self.jobs[id]

    def _job(self, job: SimulatedJob) -> Any:
        model = job.body["model"]
        suffix = job.body.get("suffix", "")
        failed, done = job.state == "failed", job.state == "succeeded"
        return {
            "id": job.id, "object": "fine_tuning.job", "created_at": BORN, "model": model, "status": job.state,
            "training_file": job.file, "validation_file": None, "organization_id": "org-1", "result_files": [],
            "hyperparameters": {"n_epochs": 3}, "seed": job.body.get("seed", 1), "finished_at": None,
            "fine_tuned_model": f"ft:{model}:org:{suffix}:{job.id[-6:]}" if done else None,
            "trained_tokens": 1234 if done else None,
            "error": {"code": "invalid_file", "message": self.error, "param": None} if failed else None,
        }  # fmt: skip


def _events(job: SimulatedJob) -> list[Any]:
    """An event of each state so far, and metrics while it runs; the oldest first."""
    events: list[Any] = []
    for look in range(min(job.looks, len(job.states) - 1) + 1):
        state = job.states[min(look, len(job.states) - 1)]
        head = {"id": f"ftevent-{look}", "object": "fine_tuning.job.event", "created_at": BORN + look, "level": "info"}
        events.append({**head, "message": f"Job is {state}.", "type": "message", "data": None})
        if state == "running":
            data = {"step": look, "train_loss": round(1 / max(look, 1), 3)}
            events.append(
                {**head, "id": f"ftevent-{look}m", "message": f"Step {look}", "type": "metrics", "data": data}
            )
    return events


def form(call: Call) -> dict[str, tuple[str, bytes]]:
    """(file name, content) of each part of a multipart body."""
    head = f"content-type: {call.headers['content-type']}\r\n\r\n".encode()
    parts = {}
    for part in message_from_bytes(head + call.body).get_payload():
        assert not isinstance(part, str)
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts[name] = (part.get_filename() or "", content)
    return parts


def _file(id: str, name: str, data: bytes) -> Any:
    return {
        "id": id, "object": "file", "bytes": len(data), "created_at": BORN, "filename": name, "purpose": "fine-tune",
        "status": "processed",
    }  # fmt: skip


def _page(listed: list[Any], call: Call) -> Any:
    """A page of a list: `limit` items behind the one that `after` names."""
    ids = [item["id"] for item in listed]
    start = ids.index(call.query["after"]) + 1 if "after" in call.query else 0
    limit = int(call.query.get("limit", 20))
    return {"object": "list", "data": listed[start : start + limit], "has_more": len(listed) > start + limit}
