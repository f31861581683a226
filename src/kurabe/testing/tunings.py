"""Fine-tuning as Mistral, Together, Fireworks, Bedrock and Vertex offer it, for the simulator."""

import re
from typing import Any, ClassVar

from kurabe.testing.tuning import BORN, SimulatedJob, Tuning, form
from kurabe.testing.wire.base import Call, Refused


def tuning_of(provider: str) -> Tuning:
    """The tuning of this provider; OpenAI's where it has no form of its own."""
    return _FORMS.get(provider, Tuning)()


class MistralTuning(Tuning):
    """Events and checkpoints are part of a job; no list says that there is more."""

    usual = ("QUEUED", "VALIDATING", "RUNNING", "RUNNING", "SUCCESS")

    def answer(self, call: Call) -> Any:
        parts = re.sub(r".*?/(files|fine_tuning)(/|$)", r"\1/", call.path).strip("/").split("/")
        if parts[0] == "files":
            return super().answer(call)
        if call.method == "POST" and len(parts) == 2:
            files = [file["file_id"] for file in call.json["training_files"]]
            if not all(file in self.files for file in files):
                raise Refused(422, "no such file")
            return self._shown(self._new(call.json, files[0], f"job-{len(self.jobs)}"))
        if len(parts) == 2:
            page, size = int(call.query.get("page", 0)), int(call.query.get("page_size", 100))
            listed = [self._shown(job) for job in reversed(self.jobs.values())]
            return {"data": listed[page * size : (page + 1) * size], "object": "list", "total": len(listed)}
        job = self._known(parts[2])
        if parts[3:] == ["cancel"]:
            job.cancelled = "CANCELLED"
        shown = self._shown(job)
        job.looks += call.method == "GET"
        return shown

    def _shown(self, job: SimulatedJob) -> Any:
        seen = job.states[: min(job.looks, len(job.states) - 1) + 1]
        steps = [n for n, state in enumerate(seen) if state == "RUNNING"]
        events = [
            {"name": "status-updated", "created_at": BORN + n, "data": {"status": state}}
            for n, state in enumerate(seen)
        ]
        if job.state == "FAILED":
            events.append({"name": "job-failed", "created_at": BORN + 99, "data": {"error": self.error}})
        done = job.state == "SUCCESS"
        return {
            "id": job.id, "object": "job", "model": job.body["model"], "status": job.state, "auto_start": True,
            "created_at": BORN, "modified_at": BORN, "training_files": [job.file], "validation_files": [],
            "hyperparameters": job.body["hyperparameters"], "job_type": "completion", "suffix": job.body["suffix"],
            "fine_tuned_model": f"ft:{job.body['model']}:{job.body['suffix']}:{job.id}" if done else None,
            "trained_tokens": 1234 if done else None, "events": events[::-1],
            "checkpoints": [
                {"step_number": n, "created_at": BORN + n, "metrics": {"train_loss": round(1 / n, 3)}} for n in steps
            ],
        }  # fmt: skip


class TogetherTuning(Tuning):
    """Files go to an address of their own, and lists have no pages."""

    usual = ("pending", "queued", "running", "running", "completed")
    pattern = r"/(files|fine-tunes)(/|$)"

    def answer(self, call: Call) -> Any:
        parts = re.sub(r".*?/(files|fine-tunes)(/|$)", r"\1/", call.path).strip("/").split("/")
        if parts == ["files", "upload"]:
            parts = ["files"]
            if form(call)["file_type"][1] != b"jsonl":
                raise Refused(400, "file_type")
        if parts[0] == "files":
            shown = self._files(call, parts[1:])
            return shown if "data" in shown else {**shown, "processing_status": "COMPLETED", "FileType": "jsonl"}
        if call.method == "POST" and len(parts) == 1:
            if call.json["training_file"] not in self.files:
                raise Refused(400, "no such file")
            return self._shown(self._new(call.json, call.json["training_file"], f"ft-{len(self.jobs)}"))
        if len(parts) == 1:
            return {"data": [self._shown(job) for job in self.jobs.values()]}
        job = self._known(parts[1])
        seen = job.states[: min(job.looks, len(job.states) - 1) + 1]
        if parts[2:] == ["events"]:
            said = [*(f"Job is {state}" for state in seen), *([self.error] if job.state == "error" else [])]
            listed = [
                {"object": "fine-tune-event", "created_at": f"2026-01-01T00:00:{n:02}Z", "message": text, "type": "log"}
                for n, text in enumerate(said)
            ]
            return {"data": listed[::-1]}
        if parts[2:] == ["metrics"]:
            steps = [n for n, state in enumerate(seen) if state == "running"]
            return {"metrics": [{"global_step": n, "train/loss": round(1 / n, 3)} for n in steps]}
        if parts[2:] == ["cancel"]:
            job.cancelled = "cancelled"
        shown = self._shown(job)
        job.looks += call.method == "GET"
        return shown

    def _shown(self, job: SimulatedJob) -> Any:
        return {
            "id": job.id, "status": job.state, "user_id": "u", "model": job.body["model"], "training_file": job.file,
            "model_output_name": f"me/{job.body['model'].rpartition('/')[2]}-{job.body['suffix']}",
        }  # fmt: skip


class FireworksTuning(Tuning):
    """Data sets and jobs have names that the caller chose."""

    usual = tuple(f"JOB_STATE_{state}" for state in ("CREATING", "PENDING", "RUNNING", "COMPLETED"))
    pattern = r"/accounts/[^/]+/(datasets|supervisedFineTuningJobs)"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.made: set[str] = set()

    def answer(self, call: Call) -> Any:
        found = re.search(r"(/accounts/[^/]+)/(datasets|supervisedFineTuningJobs)(?:/([^:/]+))?(?::(\w+))?$", call.path)
        if found is None:
            raise Refused(404, call.path)
        account, kind, name, act = found.groups()
        return self._dataset(call, name, act) if kind == "datasets" else self._job_of(call, account, name, act)

    def _dataset(self, call: Call, name: str | None, act: str | None) -> Any:
        if name is None:
            made = call.json["datasetId"]
            if made in self.made:
                raise Refused(409, "dataset already exists")
            self.made.add(made)
            return {"name": made, "state": "UPLOADING"}
        if name not in self.made:
            raise Refused(404, "dataset not found")
        if act == "upload":
            self.uploads += [name] * (name not in self.files)
            self.files[name] = form(call)["file"]
            return {}
        if call.method == "DELETE":
            self.made.discard(name)
            self.deleted.append(name)
            del self.files[name]
            return {}
        return {"name": name, "state": "READY" if name in self.files else "UPLOADING"}

    def _job_of(self, call: Call, account: str, name: str | None, act: str | None) -> Any:
        if name is None:
            id, body = call.query["supervisedFineTuningJobId"], call.json
            dataset = body["dataset"].rpartition("/")[2]
            if id in self.jobs:
                raise Refused(409, "job already exists")
            if dataset not in self.files or not body["dataset"].startswith(account[1:]):
                raise Refused(400, "no such dataset")
            return self._shown(self._new(body, dataset, id))
        job = self._known(name)
        if act == "cancel":
            job.cancelled = "JOB_STATE_CANCELLED"
        shown = self._shown(job)
        job.looks += call.method == "GET"
        return shown

    def _shown(self, job: SimulatedJob) -> Any:
        status = {"code": "INTERNAL", "message": self.error} if job.state.endswith("FAILED") else {"code": "OK"}
        return {
            "name": job.id, "state": job.state, "dataset": job.body["dataset"], "baseModel": job.body["baseModel"],
            "outputModel": job.body["outputModel"], "status": status,
        }  # fmt: skip


class BedrockTuning(Tuning):
    """Objects of S3, by their path, beside the jobs of Bedrock."""

    usual = ("InProgress", "InProgress", "Completed")
    pattern = r"^/(?!model/)"
    arn: ClassVar[str] = "arn:aws:bedrock:us-east-1:123456789012:custom-model/"

    def answer(self, call: Call) -> Any:
        if not call.path.startswith("/model-customization-jobs"):
            return self._object(call)
        if "Signature=" not in call.headers.get("authorization", "Signature="):
            raise Refused(403, "not signed")
        parts = call.path.strip("/").split("/")[1:]
        if not parts:
            body = call.json
            uri = body["trainingDataConfig"]["s3Uri"].removeprefix("s3://")
            if uri not in self.files:
                raise Refused(400, "no such object")
            if body["jobName"] not in self.jobs:
                self._new(body, uri, body["jobName"])
            return {"jobArn": "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/x"}
        job = self._known(parts[0])
        if parts[1:] == ["stop"]:
            job.cancelled = "Stopped"
            return {}
        done = job.state == "Completed"
        shown = {
            "jobName": job.id, "status": job.state, "outputModelArn": self.arn + job.id if done else None,
            "failureMessage": self.error if job.state == "Failed" else None,
            "trainingMetrics": {"trainingLoss": 0.5} if done else None,
        }  # fmt: skip
        job.looks += 1
        return {name: value for name, value in shown.items() if value is not None}

    def _object(self, call: Call) -> Any:
        name = call.path.strip("/")
        if call.method == "PUT":
            self.uploads += [name] * (name not in self.files)
            self.files[name] = (name, call.body)
        elif name not in self.files:
            raise Refused(404, "NoSuchKey")
        elif call.method == "DELETE":
            self.deleted.append(name)
            del self.files[name]
        return {}


class VertexTuning(Tuning):
    """Objects of Cloud Storage beside the tuning jobs of Vertex AI."""

    usual = tuple(f"JOB_STATE_{state}" for state in ("PENDING", "RUNNING", "SUCCEEDED"))
    pattern = r"/storage/v1/b/|/tuningJobs"

    def answer(self, call: Call) -> Any:
        if "/storage/v1/" in call.path:
            return self._object(call)
        _, _, rest = call.path.partition("/tuningJobs")
        if not rest and call.method == "POST":
            body = call.json
            uri = body["supervisedTuningSpec"]["trainingDatasetUri"].removeprefix("gs://")
            if uri not in self.files:
                raise Refused(400, "no such object")
            return self._shown(self._new(body, uri, f"{len(self.jobs)}"))
        if not rest:
            return {"tuningJobs": [self._shown(job) for job in self.jobs.values()]}
        name, _, act = rest.strip("/").partition(":")
        job = self._known(name)
        if act == "cancel":
            job.cancelled = "JOB_STATE_CANCELLED"
            return {}
        shown = self._shown(job)
        job.looks += 1
        return shown

    def _shown(self, job: SimulatedJob) -> Any:
        place = "projects/p/locations/us-central1"
        shown: dict[str, Any] = {
            "name": f"{place}/tuningJobs/{job.id}", "state": job.state, "baseModel": job.body["baseModel"],
            "tunedModelDisplayName": job.body["tunedModelDisplayName"],
        }  # fmt: skip
        if job.state.endswith("SUCCEEDED"):
            shown["tunedModel"] = {"model": f"{place}/models/7@1", "endpoint": f"{place}/endpoints/7{job.id}"}
        if job.state.endswith("FAILED"):
            shown["error"] = {"code": 3, "message": self.error}
        return shown

    def _object(self, call: Call) -> Any:
        bucket, _, name = call.path.partition("/b/")[2].partition("/o")
        if call.path.startswith("/upload/"):
            place = f"{bucket}/{call.query['name']}"
            self.uploads += [place] * (place not in self.files)
            self.files[place] = (place, call.body)
            return {"name": call.query["name"]}
        place = f"{bucket}{name}"
        if place not in self.files:
            raise Refused(404, f"No such object: {place}")
        if call.method == "DELETE":
            self.deleted.append(place)
            del self.files[place]
        return {"name": name}


_FORMS: dict[str, type[Tuning]] = {
    "mistral": MistralTuning,
    "together": TogetherTuning,
    "fireworks": FireworksTuning,
    "bedrock": BedrockTuning,
    "vertex": VertexTuning,
}
