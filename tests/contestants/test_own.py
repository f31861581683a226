"""A task file runs no code without consent, and calls nothing but estimators even with it."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from sklearn.base import clone

from kurabe.api import Task, load_trained
from kurabe.cli.main import cli
from kurabe.contest.prepare import make_entrants
from kurabe.contestants import own, persist, registry
from kurabe.contestants.checks import table
from kurabe.errors import ContestantError, InputError, ModelError
from kurabe.models.reference import parse_reference
from kurabe.tasks.spec import ContestantSpec

TASK = """
name: prices
data: {source: items.csv, split: {test: 10, validation: 10}}
target: price
kind: number
contestants: [constant, {human: {rows: 3}}, %s]
"""
MODULE = """
from pathlib import Path
import numpy as np
from sklearn.base import BaseEstimator

Path(__file__).with_name("PWNED").touch()

class Mine(BaseEstimator):
    def __init__(self, value=1.0):
        self.value = value
    def fit(self, X, y):
        return self
    def predict(self, X):
        return np.full(len(X), float(self.value))

class Beside(BaseEstimator):
    pass
"""


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "settings_file", lambda: tmp_path / "settings.toml")
    monkeypatch.delenv(own.VARIABLE, raising=False)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module on the path that leaves a file behind where it is imported."""
    (tmp_path / "their_code.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_code", raising=False)
    return "their_code"


def folder(path: Path, entry: str) -> Path:
    pl.DataFrame({"text": [f"item {i}" for i in range(60)], "price": [i / 2 for i in range(60)]}).write_csv(
        path / "items.csv"
    )
    (path / "task.yaml").write_text(TASK % entry)
    return path


def call(*args: Any) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], input="q\n")


ATTACKS = [
    '{"os:system": {command: "touch PWNED"}}',
    '{"subprocess:Popen": {args: [touch, PWNED]}}',
    '{"builtins:open": {file: PWNED, mode: w}}',
    '{"pathlib:Path.touch": {self: PWNED}}',
    '{"sklearn.utils:os.system": {command: "touch PWNED"}}',
    '{sweep: {contestant: {"os:system": {command: "touch PWNED"}}, over: {a: [1, 2]}}}',
    '{"sklearn.datasets:get_data_home": {data_home: PWNED}}',
    '{"sklearn.datasets:fetch_file": {url: "file:///etc/hostname", folder: PWNED}}',
]


@pytest.mark.parametrize("entry", ATTACKS)
@pytest.mark.parametrize(
    "command",
    [["run"], ["run", "--only", "constant"], ["human"], ["sweep"], ["tune", "run"], ["run", "--allow-code", "os"],
     ["run", "--allow-code", "subprocess", "--allow-code", "builtins", "--allow-code", "pathlib"]],
    ids=" ".join,
)  # fmt: skip
def test_no_command_runs_what_a_task_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, command: list[str]
) -> None:
    task = folder(tmp_path, entry)
    monkeypatch.chdir(tmp_path)
    result = call(*command, task)
    assert isinstance(result.exception, ContestantError), result.output
    assert not (tmp_path / "PWNED").exists()


def test_the_members_of_a_blend_are_no_way_around() -> None:
    spec = ContestantSpec("blend", {"members": ["constant", "os:getcwd"]}, "blend")
    with pytest.raises(ContestantError, match="needs your consent"):
        registry.build(spec, registry.Context("number"))


def test_a_task_in_a_real_process_does_nothing(tmp_path: Path) -> None:
    task = folder(tmp_path, ATTACKS[0])
    done = subprocess.run(
        [sys.executable, "-m", "kurabe", "run", str(task)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "--allow-code os" in done.stderr
    assert not (tmp_path / "PWNED").exists()


def test_a_module_is_imported_only_after_consent(tmp_path: Path, module: str) -> None:
    task = folder(tmp_path, f'"{module}:Mine"')
    with pytest.raises(ContestantError, match="--allow-code their_code"):
        Task.from_file(task / "task.yaml").compete()
    assert not (tmp_path / "PWNED").exists()
    board = Task.from_file(task / "task.yaml", allow_code=[module]).compete()
    assert board.row("their_code:Mine").status == "done"


def test_a_contestant_of_ones_own_is_told_of_the_task(tmp_path: Path, module: str) -> None:
    more = """
import kurabe

class Told(kurabe.Contestant):
    def __init__(self, value=1.0, kind=None, metric=None, target="mine"):
        self.value, self.kind, self.metric, self.target = value, kind, metric, target
    fit, predict = Mine.fit, Mine.predict
"""
    (tmp_path / "their_code.py").write_text(MODULE + more)
    task = folder(tmp_path, f'{{"{module}:Told": {{value: 3.0}}}}')
    told = make_entrants(Task.from_file(task / "task.yaml", allow_code=[module]), 0)[-1].estimator
    assert (told.value, told.kind, told.metric, told.target) == (3.0, "number", "mean_absolute_error", "mine")


def test_predict_asks_for_consent_too(tmp_path: Path, module: str) -> None:
    task = folder(tmp_path, f'"{module}:Mine"')
    assert call("run", task, "--allow-code", module).exit_code == 0
    refused = call("predict", task, "a text", "--contestant", "their_code:Mine")
    assert isinstance(refused.exception, ContestantError)
    allowed = call("predict", task, "a text", "--contestant", "their_code:Mine", "--allow-code", module)
    assert allowed.stdout == "1.0\n"


def test_a_sweep_over_an_estimator_of_ones_own(tmp_path: Path, module: str) -> None:
    task = folder(tmp_path, f'{{sweep: {{contestant: "{module}:Mine", over: {{value: [1.0, 15.0]}}}}, as: tried}}')
    board = Task.from_file(task / "task.yaml", allow_code=[module]).compete()
    assert board.row("tried").status == "done", board.row("tried").reason
    again = load_trained(tmp_path, board.evidence.run, "tried", board.task)
    assert again.predict(["a"]).tolist() == [15.0]


@pytest.mark.parametrize("way", ["variable", "file"])
def test_consent_for_good(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "variable":
        monkeypatch.setenv(own.VARIABLE, f"another, {module}")
    else:
        (tmp_path / "settings.toml").write_text(f'allow_code = ["{module}"]')
    built = own.own_estimator(ContestantSpec(f"{module}:Mine", {"value": 2.0}, "mine"))
    assert built.value == 2.0


@pytest.mark.parametrize("text", ["allow_code = 5", "allow_kode = []", "=", "allow_code = [5]"])
def test_a_settings_file_that_is_not_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(InputError, match=r"settings\.toml cannot be read: .* allow_code = "):
        own.own_estimator(ContestantSpec("os:system", {}, "os"))


def test_consent_covers_a_module_and_what_lies_below_it_only() -> None:
    spec = ContestantSpec("os:system", {}, "os")
    for other in ("o", "os.path", "osmium", ""):
        with pytest.raises(ContestantError, match="needs your consent"):
            own.own_estimator(spec, [other])


def test_estimators_of_scikit_learn_need_no_consent() -> None:
    spec = ContestantSpec("sklearn.dummy:DummyRegressor", {"strategy": "median"}, "dummy")
    assert own.own_estimator(spec).strategy == "median"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sklearn.pipeline:Pipeline", {"steps": [], "memory": "cache"}),  # joblib would unpickle what is there
        ("sklearn.tests.test_base:MyEstimator", {}),
        ("sklearn._loss:HalfSquaredError", {}),
        ("sklearn_other:Regressor", {}),
        ("lightgbm:LGBMRegressor", {"machines": "10.0.0.1:80"}),
    ],
)
def test_the_rest_of_scikit_learn_and_others_need_consent(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ContestantError, match="needs your consent"):
        own.own_estimator(ContestantSpec(name, settings, name))


@pytest.mark.parametrize("name", [":x", "x:", "a b:c", "../x:y", "x:y:z", "1x:y", "x.:y", "x:y..z"])
def test_names_of_another_form(name: str) -> None:
    with pytest.raises(ContestantError, match="not of the form module:object"):
        own.own_estimator(ContestantSpec(name, {}, name), ["x"])


def test_a_saved_file_may_hold_the_types_of_the_contestant_and_no_more_of_its_module(
    tmp_path: Path, module: str
) -> None:
    import skops.io

    built = own.own_estimator(ContestantSpec(f"{module}:Mine", {}, "mine"), [module])
    persist.save(built.fit(*table("number")), tmp_path / "saved")
    assert persist.load(tmp_path / "saved", built).predict([0]).tolist() == [1.0]
    built.extra_ = sys.modules[module].Beside()
    data = skops.io.dumps(built)
    manifest = (tmp_path / "saved" / persist.MANIFEST).read_text()
    before = hashlib.sha256((tmp_path / "saved" / persist.FILE).read_bytes()).hexdigest()
    (tmp_path / "saved" / persist.FILE).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "saved" / persist.MANIFEST).write_text(manifest.replace(before, digest))
    with pytest.raises(ContestantError, match=r"not trusted: their_code\.Beside"):
        persist.load(tmp_path / "saved", built, [f"sha256:{digest}"])


REMOTE = "sentence-transformers:./model?remote_code=./model"


@pytest.mark.parametrize(
    "entry",
    [
        f'{{embeddings_ridge: {{embeddings: "{REMOTE}"}}}}',
        '{prompt: {model: "hf:./model?remote_code=./model"}}',
        '{prompt: {model: "openai:m | hf:./model?remote_code=./model"}}',
        '{sweep: {contestant: prompt, over: {model: ["hf:./a", "hf:./model?context=9&remote_code=./model"]}}}',
        '{prompt: {model: "hf:./model?remote_code=%2E/model"}}',
    ],
)
def test_code_that_comes_with_a_model_needs_consent_too(tmp_path: Path, entry: str) -> None:
    task = folder(tmp_path, entry)
    result = call("run", task)
    assert isinstance(result.exception, ContestantError)
    assert "--allow-code ./model" in str(result.exception)
    allowed = call("run", task, "--only", "constant", "--allow-code", "./model")
    assert "consent" not in str(allowed.exception)


@pytest.mark.parametrize("query", ["remote%5Fcode=./model", "remote_code=good&remote_code=./model", "%72emote_code=x"])
def test_consent_is_not_asked_for_another_name_than_the_model_is_opened_with(query: str) -> None:
    text = f"hf:./model?{query}"
    assert own.remote_code([text]) == set()
    with pytest.raises(ModelError, match=r"no option of hf|is given twice"):
        parse_reference(text)


@pytest.mark.parametrize(
    "entry",
    [
        "{autogluon: {python: ./evil.sh}}",
        "{sweep: {contestant: {autogluon: {python: ./evil.sh}}, over: {minutes: [1.0, 2.0]}}}",
        "{sweep: {contestant: autogluon, over: {python: [./evil.sh, ./other.sh]}}}",
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_program_needs_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, command: str) -> None:
    task = folder(tmp_path, entry)
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/PWNED'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    result = call(command, task, "--allow-code", "./evil.shy")
    assert isinstance(result.exception, ContestantError), result.output
    assert "--allow-code ./evil.sh " in str(result.exception)
    assert not (tmp_path / "PWNED").exists()
    monkeypatch.setenv(own.VARIABLE, "./other.sh")
    allowed = call(command, task, "--allow-code", "./evil.sh", *(["--only", "constant"] if command == "run" else []))
    assert allowed.exit_code == 0, allowed.output
    assert (tmp_path / "PWNED").exists() == ("contestant: autogluon," not in entry)


def test_a_judge_with_code_of_its_own_needs_consent(tmp_path: Path) -> None:
    task = folder(tmp_path, "tfidf_ridge")
    with (task / "task.yaml").open("a") as file:
        file.write("checks: [{style: {rubric: short, judge: 'hf:./m?remote_code=./m', against: constant}}]\n")
    with pytest.raises(ContestantError, match=r"--allow-code \./m"):
        Task.from_file(task / "task.yaml").compete()


def test_a_saved_contestant_brings_no_model_with_code_of_its_own(tmp_path: Path) -> None:
    ridge = registry.build(ContestantSpec("tfidf_ridge", {}, "ridge"), registry.Context("number"))
    fitted = clone(ridge).fit(*table("number"))
    fitted.later_ = [REMOTE]
    persist.save(fitted, tmp_path / "saved")
    with pytest.raises(ContestantError, match="names a model that runs code of its own"):
        persist.load(tmp_path / "saved", ridge)


def test_trained_contestants_are_for_their_owner_only(tmp_path: Path) -> None:
    ridge = registry.build(ContestantSpec("tfidf_ridge", {}, "ridge"), registry.Context("number"))
    persist.save(ridge.fit(*table("number")), tmp_path / "trained" / "one")
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "trained").rglob("*")]
    assert sorted(modes) == [0o600, 0o600, 0o700]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{prompt: {model: 5}}", "the setting model is 5: expected a text"),
        ("{prompt: {model: [a]}}", "expected a text"),
        ("{sweep: {contestant: {prompt: {model: 5}}, over: {system: [a, b]}}}", "expected a text"),
        ("{blend: {members: [5]}}", "expected names such as tfidf_ridge, got 5"),
        ("{blend: {members: [{a: 1}]}}", "expected names such as tfidf_ridge, got {'a': 1}"),
    ],
)
def test_settings_of_a_wrong_type_are_one_message(tmp_path: Path, entry: str, message: str) -> None:
    result = call("run", folder(tmp_path, entry))
    assert isinstance(result.exception, ContestantError)
    assert message in str(result.exception)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The archive with flipped bytes, cut off, or grown."""
    found = bytearray(data)
    for _ in range(draw.randrange(1, 10)):
        found[draw.randrange(len(found))] ^= draw.randrange(1, 256)
    return bytes(found[: draw.randrange(len(found))] if draw.random() < 0.2 else found)


@pytest.mark.parametrize("name", ["constant", "tfidf_ridge", "linear_features"])
def test_a_damaged_file_is_one_message(tmp_path: Path, name: str) -> None:
    """With a manifest that agrees, as in a file that somebody made for us."""
    made = registry.build(ContestantSpec(name, {}, name), registry.Context("number"))
    X, y = table("number")
    persist.save(made.fit(X, y), tmp_path / "saved")
    data = (tmp_path / "saved" / persist.FILE).read_bytes()
    manifest = (tmp_path / "saved" / persist.MANIFEST).read_text()
    draw = random.Random(1)
    refused = 0
    for _ in range(40):
        other = damaged(data, draw)
        (tmp_path / "saved" / persist.FILE).write_bytes(other)
        before, after = (hashlib.sha256(one).hexdigest() for one in (data, other))
        (tmp_path / "saved" / persist.MANIFEST).write_text(manifest.replace(before, after))
        try:
            persist.load(tmp_path / "saved", made, [f"sha256:{after}"])
        except ContestantError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ("{prompt: {model: 'openai@http://127.0.0.1:9/v1:m?key=MY_BANK_SECRET'}}", "http://127.0.0.1:9"),
        ("{prompt: {model: 'openai@http://127.0.0.1:8000/v1:m?key=MY_BANK_SECRET'}}", "http://127.0.0.1:8000"),
        ("{prompt: {model: 'openai@https://api.openai.com/v1:m?key=MY_BANK_SECRET'}}", "https://api.openai.com:443"),
        ("{prompt: {model: 'fake:m | openai@https://a.org/v1:m?key=MY_BANK_SECRET'}}", "https://a.org:443"),
        (
            "{prompt: {model: 'openai:gpt-4.1-mini', options: {base_url: 'http://127.0.0.1:9/v1'}}}",
            "http://127.0.0.1:9",
        ),
        ("{tune: {model: 'openai:gpt-4.1-mini', options: {base_url: 'https://a.org/v1'}}}", "https://a.org:443"),
        ("{prompt: {model: 'ollama:m?host=http://a.org'}}", "http://a.org:80"),
        ("{prompt: {model: 'azure:m?endpoint=https://mine.openai.azure.com'}}", "https://mine.openai.azure.com:443"),
        ("{prompt: {model: 'bedrock:m?region=a.org/x'}}", "https://bedrock-runtime.a.org:443"),
        ("{prompt: {model: 'anthropic-vertex:m?project=p&location=a.org\\'}}", "https://a.org:443"),
        ("{sweep: {contestant: prompt, over: {model: ['vllm:m?base_url=http://a.org/v1']}}}", "http://a.org:80"),
        (
            "{sweep: {contestant: {prompt: {model: 'openai:m'}}, over: {options: [{base_url: 'https://a.org'}]}}}",
            "https://a.org:443",
        ),
        ("{embeddings_ridge: {embeddings: 'openai@https://a.org/v1:m?key=MY_BANK_SECRET'}}", "https://a.org:443"),
    ],
)
def test_a_key_goes_to_no_address_that_a_task_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, place: str
) -> None:
    for variable in ("OPENAI_API_KEY", "MY_BANK_SECRET", "OLLAMA_API_KEY", "AZURE_OPENAI_API_KEY", "VLLM_API_KEY"):
        monkeypatch.setenv(variable, "planted-0123456789")
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    path = folder(tmp_path, entry)
    with pytest.raises(ContestantError, match="your consent") as refused:
        make_entrants(Task.from_file(path / "task.yaml"), 0)
    assert f"add --allow-code {place} " in str(refused.value)
    assert "planted" not in str(refused.value)
    assert make_entrants(Task.from_file(path / "task.yaml", allow_code=[place]), 0)


@pytest.mark.parametrize(
    "entry",
    [
        "{prompt: {model: 'openai:gpt-4.1-mini'}}",
        "{prompt: {model: 'openai:gpt-4.1-mini', options: {base_url: 'https://api.openai.com/v1'}}}",
        "{prompt: {model: 'openai@https://api.openai.com/v1:m?key=OPENAI_API_KEY'}}",
        "{prompt: {model: 'openai@http://127.0.0.1:9/v1:m'}}",
        "{prompt: {model: 'ollama:m?host=http://127.0.0.1:9'}}",
        "{prompt: {model: 'azure:m?endpoint=https://env.openai.azure.com'}}",
        "{prompt: {model: 'bedrock:m?region=eu-west-1'}}",
        "{prompt: {model: 'anthropic-vertex:m?project=p&location=europe-west4'}}",
    ],
)
def test_a_providers_own_address_needs_no_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "planted-0123456789")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "planted-0123456789")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://env.openai.azure.com")
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    assert make_entrants(Task.from_file(folder(tmp_path, entry) / "task.yaml"), 0)


def test_a_judges_key_needs_consent_for_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "planted-0123456789")
    task = folder(tmp_path, "tfidf_ridge")
    judge = "{rubric: short, judge: 'openai:m', against: constant, options: {base_url: 'http://127.0.0.1:9/v1'}}"
    with (task / "task.yaml").open("a") as file:
        file.write(f"checks: [{{style: {judge}}}]\n")
    with pytest.raises(ContestantError, match=r"add --allow-code http://127\.0\.0\.1:9 "):
        Task.from_file(task / "task.yaml").compete()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{prompt: {model: 'openai:m', options: {cache: PATH}}}", "cache: a task file says true or false"),
        ("{sweep: {contestant: prompt, over: {options: [{cache: PATH}]}}}", "cache: a task file says true or false"),
        ("{sweep: {contestant: tfidf_ridge, folder: PATH}}", "folder cannot be set in a task file"),
        ("{tune: {model: 'hf:m', folder: PATH}}", "folder cannot be set in a task file"),
        ("{sweep: {contestant: {tune: {folder: PATH}}}}", "folder cannot be set in a task file"),
        ("{sweep: {contestant: tune, over: {folder: [PATH]}}}", "folder cannot be set in a task file"),
    ],
)
def test_a_task_file_names_no_file_that_kurabe_opens_for_its_own_use(tmp_path: Path, entry: str, message: str) -> None:
    path = folder(tmp_path, entry.replace("PATH", str(tmp_path / "elsewhere" / "file")))
    with pytest.raises(ContestantError, match=message):
        make_entrants(Task.from_file(path / "task.yaml"), 0)
    assert not (tmp_path / "elsewhere").exists()
