"""Tuning at Together and Fireworks beside what their SDKs sent (together 3.1.1, fireworks-ai 1.2.30), written down.

They are no test dependencies: together's holds rich below the version that kurabe uses, and both bring more than a
dozen requests are worth.

Habits of Together's SDK that we do not follow: it asks for the model's limits and a price first, says its own defaults
(scheduler, packing, evaluations), and sends a file in two steps, to an address that it is given; we send it to
`/files/upload`, as the reference of the API has it. We train on the answers alone instead of `auto`.
"""

from typing import Any

import msgspec

from kurabe.models.codecs.base import HttpRequest
from kurabe.tuning.hosted.base import Ask, Settings, Start, Steps
from kurabe.tuning.hosted.fireworks import FireworksTuning
from kurabe.tuning.hosted.together import TogetherTuning

FIREWORKS = FireworksTuning({"account": "me"})
TOGETHER = TogetherTuning()
TOGETHERS_OWN = {
    "validation_file": "", "packing": True, "warmup_ratio": 0.0, "max_grad_norm": 1.0, "weight_decay": 0.0,
    "n_checkpoints": 1, "n_evals": 0, "early_stopping_enabled": False,
    "lr_scheduler": {"lr_scheduler_type": "cosine", "lr_scheduler_args": {"min_lr_ratio": 0.0, "num_cycles": 0.5}},
}  # fmt: skip


def asked(steps: Steps[Any], *answers: Any) -> list[HttpRequest]:
    """The requests of an act where it is answered so."""
    sent: list[HttpRequest] = []
    left = list(answers)
    try:
        ask: Ask = next(steps)
        while True:
            sent.append(ask.request)
            ask = steps.send(msgspec.json.encode(left.pop(0)))
    except StopIteration:
        return sent


def lines(requests: list[HttpRequest]) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in requests]


def test_a_job_of_together() -> None:
    sent = {
        "training_file": "f", "model": "m", "n_epochs": 3, "learning_rate": 1e-05, "batch_size": "max",
        "suffix": "kurabe-1", "random_seed": 1,
        "training_type": {
            "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "lora_trainable_modules": "all-linear", "type": "Lora",
        },
        "training_method": {"method": "sft", "train_on_inputs": "auto"},
        **TOGETHERS_OWN,
    }  # fmt: skip
    settings = Settings(rank=8, learning_rate=1e-5, seed=1)
    (ours,) = asked(TOGETHER.start(Start("m", "f", "kurabe-1", settings)), {"id": "ft", "status": "pending"})
    assert (ours.method, ours.path) == ("POST", "/fine-tunes")
    expected: dict[str, Any] = {name: value for name, value in sent.items() if name not in TOGETHERS_OWN}
    del expected["training_type"]["lora_dropout"]
    expected["training_method"]["train_on_inputs"] = False
    assert msgspec.json.decode(ours.body) == expected


def test_the_addresses_of_together() -> None:
    job = {"id": "ft-1", "status": "completed"}
    assert lines(asked(TOGETHER.look("ft-1"), job, {"data": []}, {"metrics": []})) == [
        ("GET", "/fine-tunes/ft-1"), ("GET", "/fine-tunes/ft-1/events"), ("GET", "/fine-tunes/ft-1/metrics"),
    ]  # fmt: skip
    assert lines(asked(TOGETHER.cancel("ft-1"), {})) == [("POST", "/fine-tunes/ft-1/cancel")]
    assert lines(asked(TOGETHER.find_upload("x"), {"data": []})) == [("GET", "/files")]
    assert lines(asked(TOGETHER.find_job(Start("m", "f", "n", Settings())), {"data": []})) == [("GET", "/fine-tunes")]
    assert lines(asked(TOGETHER.delete_upload("f"), {})) == [("DELETE", "/files/f")]


def test_a_data_set_of_fireworks() -> None:
    create, upload = asked(FIREWORKS.upload("kurabe-1.jsonl", b"{}\n"), {}, {})
    assert (create.method, create.path) == ("POST", "/accounts/me/datasets")
    assert msgspec.json.decode(create.body) == {
        "dataset": {"userUploaded": {}, "exampleCount": "1", "format": "CHAT"}, "datasetId": "kurabe-1",
    }  # fmt: skip
    assert (upload.method, upload.path) == ("POST", "/accounts/me/datasets/kurabe-1:upload")
    boundary = upload.headers["content-type"].partition("boundary=")[2].encode()
    assert upload.body.lower() == (
        b"--" + boundary + b'\r\ncontent-disposition: form-data; name="file"; filename="kurabe-1.jsonl"\r\n'
        b"content-type: application/octet-stream\r\n\r\n{}\n\r\n--" + boundary + b"--\r\n"
    )
    assert lines(asked(FIREWORKS.ready("kurabe-1"), {"state": "READY"})) == [("GET", "/accounts/me/datasets/kurabe-1")]
    assert lines(asked(FIREWORKS.delete_upload("kurabe-1"), {})) == [("DELETE", "/accounts/me/datasets/kurabe-1")]


def test_a_job_of_fireworks() -> None:
    settings = Settings(learning_rate=1e-4, rank=8, batch_size=4)
    (ours,) = asked(FIREWORKS.start(Start("m", "kurabe-1", "kurabe-1", settings)), {})
    assert (ours.method, ours.path) == ("POST", "/accounts/me/supervisedFineTuningJobs")
    assert ours.query == {"supervisedFineTuningJobId": "kurabe-1"}
    assert msgspec.json.decode(ours.body) == {
        "dataset": "accounts/me/datasets/kurabe-1", "baseModel": "m", "batchSizeSamples": 4, "displayName": "kurabe-1",
        "epochs": 3, "learningRate": 0.0001, "loraRank": 8, "outputModel": "accounts/me/models/kurabe-1",
    }  # fmt: skip
    path = "/accounts/me/supervisedFineTuningJobs/kurabe-1"
    assert lines(asked(FIREWORKS.look("kurabe-1"), {})) == [("GET", path)]
    (cancel,) = asked(FIREWORKS.cancel("kurabe-1"), {})
    assert (cancel.method, cancel.path, cancel.body) == ("POST", path + ":cancel", b"{}")
