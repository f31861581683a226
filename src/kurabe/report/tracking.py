"""A run of a contest for experiment trackers: MLflow, Weights & Biases, Trackio.

What is sent is made of plain values by `tracked`; each tracker's part only writes it down. What was sent before is
brought up to date: a contestant of a run is known by the run and its name.
"""

import io
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from kurabe.contest.board import Board, BoardRow
from kurabe.contest.evidence import Entry
from kurabe.contest.sweeps import sweep_result
from kurabe.errors import KurabeError, MissingExtraError, without_secrets
from kurabe.report.data import to_json
from kurabe.report.html import html_report
from kurabe.report.learning import sweep_dict

TRACKERS: Final = ("mlflow", "wandb", "trackio")
_NO_REPORTS: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
"""What keeps the trackers from telling their makers of their use; what the user has set stands."""
_SECRET: Final = ("key", "token", "secret", "password", "header")  # in names of settings that are not sent
_LONGEST: Final = 500  # characters of a setting; MLflow takes 6,000
_LONGEST_NAME: Final = 200  # MLflow takes 250


class Point(NamedTuple):
    """A value of a learning curve at a step."""

    curve: str
    step: int
    value: float


class Tracked(NamedTuple):
    """What a tracker's run is to hold. `key` is 16 hexadecimal digits that stand for the run and the contestant;
    `curves` are in ascending order of steps."""

    key: str
    name: str
    settings: dict[str, str]
    metrics: dict[str, float]
    curves: tuple[Point, ...]
    about: dict[str, str]


def tracked(board: Board, settings: Mapping[str, Mapping[str, Any]]) -> list[Tracked]:
    """The board as a whole, then one element a contestant, best first. `settings`: of each contestant by its name, as
    the task file has them."""
    evidence = board.evidence
    entries = {entry.name: entry for entry in evidence.entries}
    sizes = {"contestants": float(len(board.rows)), "test_rows": float(len(evidence.truth))}
    sizes["train_rows"] = float(evidence.train_rows)
    about = {"kurabe.run": evidence.run, "task": evidence.task, "metric": evidence.metric}
    found = [Tracked(_key(evidence.run), f"board {evidence.run}", {}, sizes, (), about)]
    for row in board.rows:
        about = {
            "kurabe.run": evidence.run, "kurabe.contestant": row.contestant, "task": evidence.task,
            "metric": evidence.metric, "status": row.status, "model": row.model or "", "reason": row.reason or "",
        }  # fmt: skip
        found.append(
            Tracked(
                _key(evidence.run, row.contestant),
                row.contestant,
                _flat(settings.get(row.contestant, {})),
                _metrics(row),
                _curves(entries[row.contestant], board),
                # an empty reason takes the place of an earlier one
                {name: without_secrets(value) for name, value in about.items() if value or name == "reason"},
            )
        )
    return found


def _key(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Settings as texts, nested names joined by dots, without keys."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if any(word in str(name).lower() for word in _SECRET) and not isinstance(value, int | float):
            continue
        if isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[_name(f"{before}{name}")] = without_secrets(str(value))[:_LONGEST]
    return found


def _metrics(row: BoardRow) -> dict[str, float]:
    low, high = row.interval or (None, None)
    forgetting = row.forgetting
    values: dict[str, float | None] = {
        "score": row.score, "score_low": low, "score_high": high, "rank": row.rank, "unread": row.unread,
        "answered": row.answered, "usd": row.usd, "fit_seconds": row.fit_seconds,
        "predictions_per_second": row.predictions_per_second, "peak_bytes": row.peak_bytes,
        "general_before": forgetting.before if forgetting else None,
        "general_after": forgetting.after if forgetting else None,
        **row.second, **{f"check_{label}": check.value for label, check in row.checks.items()},
    }  # fmt: skip
    return {_name(name): float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _name(text: str) -> str:
    """A name in the letters, and of a length, that all trackers take, such as `macro-F1` and `R2`."""
    text = text.replace("²", "2")[:_LONGEST_NAME]
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_. ") else "_" for letter in text)


def _curves(entry: Entry, board: Board) -> tuple[Point, ...]:
    tuning = entry.notes.get("tuning") or {}
    points = [Point("tuning_loss", step, loss) for step, loss in enumerate(tuning.get("losses") or (), 1)]
    points += [Point("validation_score", int(step), score) for step, score in tuning.get("scores") or ()]
    result = sweep_result(entry, board.evidence.kind)
    if result is not None:
        points += [
            Point("score_by_training_rows", int(one["rows"]), one["score"]) for one in sweep_dict(result)["curve"]
        ]
    return tuple(sorted((p for p in points if math.isfinite(p.value)), key=lambda p: (p.step, p.curve)))


def by_step(curves: Sequence[Point]) -> list[tuple[int, dict[str, float]]]:
    """The points of each step together."""
    found: dict[int, dict[str, float]] = {}
    for point in curves:
        found.setdefault(point.step, {})[point.curve] = point.value
    return sorted(found.items())


def send(board: Board, settings: Mapping[str, Mapping[str, Any]], to: str, at: str | None, folder: Path) -> str:
    """Write the run to a tracker, and return where it is.

    `to` is one of TRACKERS. `at`: for MLflow the tracking URI, for the others the project. None: MLFLOW_TRACKING_URI,
    else `mlflow.db` in `folder`; the task's name. Weights & Biases writes to `folder`/wandb, and to its server unless
    WANDB_MODE is `offline`. Raises MissingExtraError, and KurabeError for what the tracker refuses.
    """
    runs = tracked(board, settings)
    for name, value in _NO_REPORTS.items():  # read when they are imported, and by processes that they start
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as made:
        files = [Path(made) / "report.html", Path(made) / "board.json"]
        files[0].write_text(html_report(board))
        files[1].write_text(to_json(board))
        write = {"mlflow": _to_mlflow, "wandb": _to_wandb, "trackio": _to_trackio}[to]
        try:
            with redirect_stdout(io.StringIO()):  # they have much to say
                return write(board, runs, files, at, folder)
        except ImportError as error:
            if to == "wandb":
                raise KurabeError(f"Weights & Biases needs its package ({error}): pip install wandb") from None
            raise MissingExtraError(f"the tracker {to} ({error})", "tracking") from None
        except KurabeError:
            raise
        except Exception as error:  # whatever a tracker raises: no server, a project that is not yours
            said = _without_password(without_secrets(" ".join(str(error).split())))
            raise KurabeError(f"{to} took nothing more: {said[:300]}") from None


def _without_password(text: str) -> str:
    """`text` without the names and passwords of its addresses, which a tracking URI may hold."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


def _slug(task: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in task)


def _to_mlflow(board: Board, runs: Sequence[Tracked], files: Sequence[Path], at: str | None, folder: Path) -> str:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    evidence = board.evidence
    uri = at or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(evidence.task)
    if known is not None:
        experiment = known.experiment_id
    else:
        place = (folder / "mlflow-artifacts").resolve().as_uri() if uri.startswith("sqlite:") else None
        experiment = client.create_experiment(evidence.task, artifact_location=place)
    began = int(datetime.fromisoformat(evidence.started).timestamp() * 1000) if evidence.started else 0
    parent = ""
    for run in runs:
        found = client.search_runs([experiment], f"tags.`kurabe.key` = '{run.key}'")
        kept = found[0] if found else None
        if kept is not None and not kept.data.params.items() <= run.settings.items():  # params can't be changed
            client.delete_run(kept.info.run_id)
            kept = None
        tags = {**run.about, "kurabe.key": run.key, "mlflow.runName": run.name}
        if parent:
            tags["mlflow.parentRunId"] = parent
        made = kept.info.run_id if kept else client.create_run(experiment, began, tags, run.name).info.run_id
        parent = parent or made
        there = {
            name: {m.step for m in client.get_metric_history(made, name)} for name in {p.curve for p in run.curves}
        }
        before = kept.data.metrics if kept else {}
        now = time.time_ns() // 1_000_000  # of several values at one step MLflow shows that of the latest time
        metrics = [Metric(name, value, now, 0) for name, value in run.metrics.items() if before.get(name) != value]
        metrics += [
            Metric(p.curve, p.value, began + p.step, p.step) for p in run.curves if p.step not in there[p.curve]
        ]
        for start in range(0, len(metrics), 1000):  # MLflow's limit
            client.log_batch(made, metrics=metrics[start : start + 1000])
        client.log_batch(made, params=[Param(*item) for item in run.settings.items()][:100],
                         tags=[RunTag(*item) for item in tags.items()])  # fmt: skip
        for file in files if run is runs[0] else ():
            client.log_artifact(made, str(file))
        client.set_terminated(made)
    return _without_password(uri)


def _to_wandb(board: Board, runs: Sequence[Tracked], files: Sequence[Path], at: str | None, folder: Path) -> str:
    import shutil

    import wandb

    evidence = board.evidence
    project = at or _slug(evidence.task)
    entity, _, project = project.rpartition("/")
    # Only what `tracked` says is sent: no name of the machine, command line, packages or repository.
    own = wandb.Settings(
        silent=True, console="off", host="", disable_code=True, disable_git=True, x_disable_machine_info=True,
        x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
    )  # fmt: skip
    for run in runs:
        offline = os.environ.get("WANDB_MODE") == "offline"
        for old in (folder / "wandb").glob(f"offline-run-*-{run.key}") if offline else ():
            shutil.rmtree(old)
        with wandb.init(
            entity=entity or None, project=project, dir=str(folder), id=run.key, name=run.name, group=evidence.run,
            config={**run.settings, **run.about}, allow_val_change=True, resume=None if offline else "allow",
            settings=own,
        ) as written:  # fmt: skip
            written.define_metric("step")
            for name in sorted({point.curve for point in run.curves}):
                written.define_metric(name, step_metric="step")
            rows = by_step(run.curves)
            for step, values in rows[written.step :]:
                written.log({"step": step, **values})
            written.summary.update(run.metrics)
            if run is runs[0]:
                artifact = wandb.Artifact(f"report-{evidence.run}", type="report")
                for file in files:
                    artifact.add_file(str(file))
                written.log_artifact(artifact)
    return f"{entity}/{project}".strip("/")


def _to_trackio(board: Board, runs: Sequence[Tracked], files: Sequence[Path], at: str | None, folder: Path) -> str:
    import trackio

    evidence = board.evidence
    project = at or _slug(evidence.task)
    try:
        known = list(trackio.Api().runs(project))
    except ValueError:  # no such project yet
        known = []
    for run in runs:
        for old in known:
            if (old.config or {}).get("kurabe.key") == run.key:
                old.delete()
        config = {**run.settings, **run.about, "kurabe.key": run.key}
        written = trackio.init(
            project,
            name=run.name,
            group=evidence.run,
            config=config,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for step, values in by_step(run.curves):
            written.log(values, step=step)
        if run.metrics:
            written.log(run.metrics)
        if run is runs[0]:
            for file in files:
                trackio.log_artifact(file, name=f"{file.stem}-{evidence.run}", type="report", overwrite=True)
        trackio.finish()
    return project
