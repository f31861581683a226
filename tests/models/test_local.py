"""Where the files of local models are: paths, the catalog, Ollama's folder. The hub's cache: test_hub.py."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kurabe.cli.main import cli
from kurabe.errors import MissingExtraError, ModelError
from kurabe.models import availability, beside, fingerprint, open_model, pull_name
from kurabe.models.engines import opened
from kurabe.models.engines.opened import require_engine
from kurabe.models.files import ollama_store
from kurabe.models.files.downloaded import downloaded
from kurabe.models.files.local import located, located_adapter
from kurabe.models.reference import parse_reference
from kurabe.testing.tiny_gguf import tiny_llama

IMAGE = "application/vnd.ollama.image"
TEMPLATE = b"{{ .System }} {{ .Prompt }}"


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model of the machine's but the catalog's."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "ollama"
    put(folder, "registry.ollama.ai/library/llama3.2/latest", model=b"GGUF of llama", template=TEMPLATE)
    put(folder, "registry.ollama.ai/library/llama3.2/1b", model=b"GGUF of the small one", template=TEMPLATE)
    put(folder, "registry.ollama.ai/me/mine/v1", model=b"GGUF of mine", adapter=b"LoRA", system=b"Be brief.")
    put(folder, "hf.co/owner/Model-GGUF/Q4_K_M", model=b"GGUF from the hub", params=b'{"stop": ["x"]}')
    return folder


def put(store: Path, name: str, **layers: bytes) -> Path:
    """Lay a model out as Ollama does: a manifest by its name, and a blob for each layer."""
    described = [described_blob(store, content, f"{IMAGE}.{kind}") for kind, content in layers.items()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": described_blob(store, b'{"model_format": "gguf"}', "application/vnd.docker.container.image.v1+json"),
        "layers": described,
    }
    path = store / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return path


def described_blob(store: Path, content: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    path = store / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def find(reference: str) -> bytes:
    path = located(parse_reference(reference))
    assert path is not None
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ollama/llama3.2", b"GGUF of llama"),
        ("ollama/llama3.2:latest", b"GGUF of llama"),
        ("ollama/library/llama3.2:1b", b"GGUF of the small one"),
        ("ollama/registry.ollama.ai/library/llama3.2:1b", b"GGUF of the small one"),
        ("ollama/me/mine:v1", b"GGUF of mine"),
        ("ollama/hf.co/owner/Model-GGUF:Q4_K_M", b"GGUF from the hub"),
    ],
)
def test_what_ollama_has_downloaded(name: str, content: bytes, store: Path) -> None:
    assert find(f"gguf:{name}?context=100") == content
    assert pull_name(f"gguf:{name}") is None
    assert availability(f"gguf:{name}") is None


def test_it_is_only_read(store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    find("gguf:ollama/llama3.2")
    fingerprint("gguf:ollama/llama3.2")
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_a_path_that_exists_comes_first(store: Path, tmp_path: Path) -> None:
    (tmp_path / "ollama" / "llama3.2").write_bytes(b"a file of one's own")
    assert find("gguf:ollama/llama3.2") == b"a file of one's own"


def test_a_model_that_ollama_has_not(store: Path) -> None:
    with pytest.raises(ModelError) as caught:
        located(parse_reference("gguf:ollama/lama3.2"))
    text = str(caught.value)
    assert "no downloaded Ollama model 'lama3.2:latest'; did you mean 'llama3.2:latest'?" in text
    assert "hf.co/owner/Model-GGUF:Q4_K_M" in text
    assert text.endswith("Fetch it with: kurabe pull ollama:lama3.2")


def test_no_ollama_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is on this machine; where they lie elsewhere, set OLLAMA_MODELS"):
        located(parse_reference("gguf:ollama/llama3.2"))
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    put(tmp_path / "home" / ".ollama" / "models", "registry.ollama.ai/library/here/latest", model=b"GGUF at home")
    assert find("gguf:ollama/here") == b"GGUF at home"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "a/../b", "..", "a:..", "a:../b", "/etc/passwd", "a//b", "a/b/c/d", "", ":tag", "a:", "a b",
        "a\\..\\b", "C:/models/m", "./a", "é",
    ],
)  # fmt: skip
def test_names_that_are_none(name: str, store: Path) -> None:
    with pytest.raises(ModelError, match="is no name of an Ollama model"):
        ollama_store.stored(name)


@given(st.text("abC09._-:/\\~ \x00é", max_size=30))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    try:
        parts = ollama_store.parse_name(name)
    except ModelError:
        return
    place = Path("/store/manifests")
    assert Path(os.path.normpath(place.joinpath(*parts))).parent.parent.parent.parent == place


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../../etc/passwd", "sha256:" + "ab" * 31, "md5:" + "ab" * 32, "sha256:" + "AB/." * 16, ""],
)
def test_a_digest_that_is_none(digest: str, store: Path) -> None:
    path = put(store, "registry.ollama.ai/library/bad/latest", model=b"x")
    manifest = json.loads(path.read_text())
    manifest["layers"][0]["digest"] = digest
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="which is no SHA-256"):
        located(parse_reference("gguf:ollama/bad"))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "can't be read"),
        (b"{", "can't be read"),
        (b"[]", "can't be read"),
        (b"\xff\xfe{}", "can't be read"),
        (b'{"layers": 3}', "can't be read"),
        (b'{"layers": [{"digest": "x"}]}', "can't be read"),
        (b"{}", "can't be read"),
        (b'{"layers": []}', "holds no GGUF file (a cloud model, or one of another format); only Ollama itself"),
    ],
)
def test_a_manifest_that_is_broken(content: bytes, part: str, store: Path) -> None:
    (store / "manifests" / "registry.ollama.ai" / "library" / "llama3.2" / "latest").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        located(parse_reference("gguf:ollama/llama3.2"))
    assert part in str(caught.value)
    assert [model.reference for model in downloaded("gguf") if "llama3.2" in model.reference] == [
        "gguf:ollama/llama3.2:1b"
    ]


def test_a_blob_that_is_cut_or_gone(store: Path) -> None:
    blob = located(parse_reference("gguf:ollama/llama3.2"))
    assert blob is not None
    blob.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"has 4 bytes of 13; fetch it again with: kurabe pull ollama:llama3.2:latest"):
        open_model("gguf:ollama/llama3.2")
    blob.unlink()
    with pytest.raises(ModelError, match="can't be read: No such file"):
        open_model("gguf:ollama/llama3.2")


class Engine:
    """In the place of an engine: what it was given."""

    def __init__(self, path: Path, parsed: Any) -> None:
        self.path, self.options, self.reference = path, parsed.options, ""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "_engine", lambda scheme: Engine)


@pytest.mark.usefixtures("engine")
def test_ollamas_adapter_is_loaded_and_what_is_left_out_is_said(store: Path) -> None:
    with pytest.warns(UserWarning, match="not its system prompt; 'ollama:me/mine:v1' asks Ollama itself"):
        model: Any = open_model("gguf:ollama/me/mine:v1")
    assert model.path.read_bytes() == b"GGUF of mine"
    assert Path(model.options["adapter"]).read_bytes() == b"LoRA"
    assert model.reference == "gguf:ollama/me/mine:v1"
    plain: Any = open_model("gguf:ollama/llama3.2")
    assert plain.options == {}
    own = store.parent / "own.gguf"
    own.write_bytes(b"mine")
    with pytest.raises(ModelError, match=r"there is no adapter .*other\.gguf"):
        open_model(f"gguf:ollama/me/mine:v1?adapter={own.with_name('other.gguf')}")
    assert open_model(f"gguf:ollama/llama3.2?adapter={own}").options["adapter"] == str(own)  # type: ignore[attr-defined]


def test_the_command_line_says_what_is_left_out_in_one_line(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny.gguf").read_bytes()
    put(tmp_path / "ollama", "registry.ollama.ai/me/mine/v1", model=model, system=b"Be brief.")
    command = [sys.executable, "-m", "kurabe", "tokens", "gguf:ollama/me/mine:v1", "a b"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("kurabe: gguf:ollama/me/mine:v1: kurabe takes the weights")
    assert line.endswith("'ollama:me/mine:v1' asks Ollama itself, with all of it")


def test_a_real_model_out_of_ollamas_folder(smollm2: Path, store: Path) -> None:
    digest = hashlib.sha256(smollm2.read_bytes()).hexdigest()
    (store / "blobs" / f"sha256-{digest}").symlink_to(smollm2)
    path = put(store, "registry.ollama.ai/library/smollm2/135m", template=TEMPLATE)
    manifest = json.loads(path.read_text())
    layer = {"mediaType": f"{IMAGE}.model", "digest": f"sha256:{digest}", "size": smollm2.stat().st_size}
    path.write_text(json.dumps(manifest | {"layers": [layer, *manifest["layers"]]}))
    answers = []
    for name in (smollm2, "ollama/smollm2:135m"):
        with open_model(f"gguf:{name}?context=256") as model:
            answers.append(model.complete("What is the capital of France?", max_tokens=8, temperature=0))
    assert answers[0] == answers[1] != ""


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("gguf:smollm2", "there is no file 'smollm2' and no model of that name; did you mean 'smollm2-135m'?"),
        ("gguf:llama3.2", "did you mean 'ollama/llama3.2:1b'?"),
        ("hf:smollm2", "a folder with config.json and .safetensors, a GGUF file, or a model of the Hugging Face hub"),
        ("gguf:owner/repo", "of a repository of the Hugging Face hub 'gguf:' needs the file's name too"),
        ("gguf:./m.gguf", "there is no file m.gguf; name a GGUF file, one of the Hugging Face hub as owner/repo/FILE"),
        ("gguf:models/m.gguf", "there is no file models/m.gguf"),
        ("hf:./folder", "there is no file folder; name a folder"),
        ("gguf:owner/repo/m.gguf", "not on this machine yet; fetch it with: kurabe pull gguf:owner/repo/m.gguf"),
        ("hf:owner/repo", "not on this machine yet; fetch it with: kurabe pull hf:owner/repo"),
        (f"gguf:{'a' * 5000}.gguf", "is not a file name: File name too long"),
        ("gguf:~nobody-of-that-name/m.gguf", "is not a file name: Could not determine home directory"),
        (f"hf:smollm2-135m?adapter={'a' * 5000}", "is not a file name: File name too long"),
    ],
)
def test_what_is_not_there(reference: str, part: str, store: Path) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(reference)
    assert part in str(caught.value)


@pytest.mark.parametrize("library", ["transformers", "torch", "accelerate", "gguf"])
def test_a_part_of_an_extra_is_missing(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(opened, "find_spec", lambda name: None if name == library else find_spec(name))
    require_engine("gguf")
    with pytest.raises(MissingExtraError, match=r"kurabe\[transformers\]"):
        require_engine("hf")


@pytest.mark.parametrize("library", ["xllamacpp", "llguidance"])
def test_a_part_of_llama_cpps_extra_is_missing(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(opened, "find_spec", lambda name: None if name == library else find_spec(name))
    with pytest.raises(MissingExtraError, match=r"kurabe\[local\]"):
        require_engine("gguf")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    for number in (1, 2):
        (tmp_path / "m" / f"big-{number:05}-of-00002.gguf").write_bytes(b"GGUF")
    for name in (
        tmp_path / "m" / "big-00002-of-00002.gguf",
        "m/big-00001-of-00002.gguf",
        "~/m/big-00002-of-00002.gguf",
    ):
        found = located(parse_reference(f"gguf:{name}"))
        assert found is not None
        assert (found.name, found.exists()) == ("big-00001-of-00002.gguf", True)
    assert located(parse_reference("hf:m")) == Path("m")


def test_paths_beside_a_task(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "m.gguf").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"GGUF")
    (folder / "lora").mkdir()
    assert beside("gguf:m.gguf?adapter=lora", folder) == f"gguf:{folder}/m.gguf?adapter={folder}/lora"
    assert beside("gguf:n.gguf?adapter=other", folder) == "gguf:n.gguf?adapter=other"
    assert beside("openai:m.gguf", folder) == "openai:m.gguf"


def test_a_changed_file_or_adapter_is_another_contestant(tmp_path: Path, store: Path) -> None:
    model, adapter = tmp_path / "m.gguf", tmp_path / "lora"
    model.write_bytes(b"GGUF")
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"1")
    (adapter / "adapter_config.json").write_bytes(b"{}")
    reference = f"gguf:{model}?adapter={adapter}"
    assert located_adapter(parse_reference(reference)) == adapter
    seen = [fingerprint(f"gguf:{model}"), fingerprint(reference)]
    (adapter / "README.md").write_text("not a part of it")
    assert fingerprint(reference) == seen[1]
    (adapter / "adapter_model.safetensors").write_bytes(b"22")
    seen.append(fingerprint(reference))
    model.write_bytes(b"GGUF 2")
    seen.append(fingerprint(reference))
    seen += [fingerprint(f"gguf:ollama/{name}") for name in ("llama3.2", "llama3.2:1b", "me/mine:v1")]
    assert len(set(seen)) == len(seen)
    blob = located(parse_reference("gguf:ollama/llama3.2"))
    assert blob is not None
    assert fingerprint("gguf:ollama/llama3.2") == blob.name
    assert fingerprint("gguf:nothing-here") == ""


def test_a_changed_folder_is_another_contestant(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1")
    first = fingerprint(f"hf:{folder}")
    assert first == fingerprint(f"hf:{folder}") != ""
    (folder / "tokenizer.json").write_text("{}")
    second = fingerprint(f"hf:{folder}")
    (folder / "model.safetensors").write_bytes(b"12")
    assert len({first, second, fingerprint(f"hf:{folder}")}) == 3


def test_the_models_on_this_machine_are_listed(store: Path, smollm2: Path) -> None:
    listed = CliRunner().invoke(cli, ["models", "gguf"])
    assert listed.exit_code == 0, listed.output
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names == [
        "gguf:smollm2-135m", "gguf:ollama/hf.co/owner/Model-GGUF:Q4_K_M", "gguf:ollama/llama3.2:1b",
        "gguf:ollama/llama3.2:latest", "gguf:ollama/me/mine:v1",
    ]  # fmt: skip
    found = json.loads(CliRunner().invoke(cli, ["models", "gguf", "--json"]).stdout)
    assert found[0] == {"reference": "gguf:smollm2-135m", "size": 98_362_432, "where": "kurabe"}
    assert found[-1] == {"reference": "gguf:ollama/me/mine:v1", "size": len(b"GGUF of mineLoRA"), "where": "Ollama"}
    for name in names:
        assert pull_name(name) is None


def test_no_model_is_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KURABE_CACHE", str(tmp_path))
    listed = CliRunner().invoke(cli, ["models", "hf"])
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "fetch one with: kurabe pull" in listed.stderr
