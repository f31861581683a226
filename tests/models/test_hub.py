"""Models from the Hugging Face hub: against a hub on the loopback, real files, real sockets, the hub's own library."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from kurabe.errors import DownloadError, ModelError
from kurabe.models import fingerprint, open_model, pull_name
from kurabe.models.embeddings.base import model_folder
from kurabe.models.files.hub import HubName, cache_folder, cached, hub_name, kept, split_parts
from kurabe.models.files.local import located, pull_command
from kurabe.models.files.small_files import MOST_BYTES
from kurabe.models.pull import pull
from kurabe.models.reference import parse_reference
from kurabe.testing.hub import Hub

WEIGHTS = os.urandom(1_500_000)
MODEL: dict[str, bytes] = {
    "README.md": b"# a model",
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "model.fp16.safetensors": b"half",
    "pytorch_model.bin": b"a pickle",
    "tokenizer.json": b'{"model": {}}',
    "tokenizer.model": b"pieces",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
    "modeling_own.py": b"raise SystemExit",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
}
NEEDED = {
    "chat_template.jinja", "config.json", "generation_config.json", "merges.txt", "model.safetensors", "tokenizer.json",
    "tokenizer.model",
}  # fmt: skip
REFERENCE = "hf:owner/small"


@pytest.fixture(autouse=True)
def _models(hub: Hub) -> None:
    hub.models["owner/small"] = dict(MODEL)
    parts = {f"q4/big-{number:05}-of-00003.gguf": os.urandom(200_000) for number in (1, 2, 3)}
    hub.models["owner/gguf"] = {"README.md": b"# quantized", "tiny.Q4_0.gguf": os.urandom(300_000), **parts}


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_fetched_without_what_it_does_not_need(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = pull(REFERENCE, lambda done, total: seen.append((done, total)))
    assert names(path) == NEEDED
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    total = sum(len(MODEL[name]) for name in NEEDED)
    assert (seen[0], seen[-1]) == ((0, total), (total, total))  # the size is said before anything comes
    assert seen == sorted(seen)
    assert path.is_relative_to(
        tmp_path / "hf" / "hub" / "models--owner--small" / "snapshots" / hub.commit("owner/small")
    )
    assert located(parse_reference(REFERENCE)) == path
    assert pull_name(REFERENCE) is None
    leftovers = [name for name in names(cache_folder()) if "incomplete" in name]
    assert leftovers == []


def test_the_hubs_own_library_finds_what_was_fetched(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

    path = pull(REFERENCE)
    found = try_to_load_from_cache("owner/small", "model.safetensors", cache_dir=cache_folder())
    assert found == str(path / "model.safetensors")
    hub.log.clear()
    hf_hub_download("owner/small", "model.safetensors", cache_dir=cache_folder(), endpoint=hub.url)
    assert hub.fetched() == []
    whole = snapshot_download(
        "owner/small", cache_dir=cache_folder(), local_files_only=True, allow_patterns=["c*.json"]
    )
    assert whole == str(path)


def test_what_the_hubs_own_library_fetched_is_found(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download("owner/gguf", "tiny.Q4_0.gguf", cache_dir=cache_folder(), endpoint=hub.url)
    assert located(parse_reference("gguf:owner/gguf/tiny.Q4_0.gguf")) == Path(path)


def test_a_second_pull_fetches_only_what_has_changed(hub: Hub) -> None:
    first = pull(REFERENCE)
    hub.log.clear()
    assert pull(REFERENCE) == first
    assert hub.fetched() == []
    before = fingerprint(REFERENCE)
    hub.models["owner/small"]["config.json"] = b'{"model_type": "llama", "new": true}'
    second = pull(REFERENCE)
    assert second != first
    assert [name for name, _ in hub.fetched()] == ["config.json"]
    assert located(parse_reference(REFERENCE)) == second
    assert fingerprint(REFERENCE) != before


def test_a_gguf_file_and_its_parts(hub: Hub) -> None:
    one = pull("gguf:owner/gguf/tiny.Q4_0.gguf")
    assert one.read_bytes() == hub.models["owner/gguf"]["tiny.Q4_0.gguf"]
    assert [name for name, _ in hub.fetched()] == ["tiny.Q4_0.gguf"]
    reference = "gguf:owner/gguf/q4/big-00002-of-00003.gguf"  # any part names them all
    assert pull_name(reference) == reference
    first = pull(reference)
    assert first.name == "big-00001-of-00003.gguf"
    parts = [first.with_name(f"big-{number:05}-of-00003.gguf") for number in (1, 2, 3)]
    assert [part.read_bytes() for part in parts] == [
        content for name, content in hub.models["owner/gguf"].items() if name.startswith("q4/")
    ]
    parts[2].unlink()
    assert located(parse_reference(reference)) is None
    assert "q4/big" not in str(kept())


def test_a_revision(hub: Hub) -> None:
    hub.tags["owner/small", "v1"] = MODEL | {"config.json": b'{"old": true}'}
    old = pull(f"{REFERENCE}?revision=v1")
    assert json.loads((old / "config.json").read_bytes()) == {"old": True}
    assert located(parse_reference(REFERENCE)) is None
    assert located(parse_reference(f"{REFERENCE}?revision=v1")) == old
    commit = hub.commit("owner/small", "v1")
    assert located(parse_reference(f"{REFERENCE}?revision={commit}")) == old
    with pytest.raises(DownloadError, match="not at the revision 'v2'"):
        pull(f"{REFERENCE}?revision=v2")
    with pytest.raises(ModelError, match="is no revision"):
        located(parse_reference(f"{REFERENCE}?revision=../../../etc"))


def test_a_cut_download_goes_on(hub: Hub) -> None:
    hub.cuts = [400_000, 500_000]
    assert (pull(REFERENCE) / "model.safetensors").read_bytes() == WEIGHTS
    asked = [asked for name, asked in hub.fetched() if name == "model.safetensors"]
    assert asked == [None, "bytes=400000-", "bytes=900000-"]


def test_ctrl_c_leaves_what_the_next_call_goes_on_with(hub: Hub) -> None:
    hub.pause = lambda: time.sleep(0.1)
    code = (
        "import sys; from kurabe.models.pull import pull\n"
        "try: pull(sys.argv[1], lambda done, total: print(done, flush=True))\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, REFERENCE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 100_000:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out.splitlines()[-1], err) == ("interrupted", "")
    (part,) = cache_folder().rglob("*.incomplete")
    have = part.stat().st_size
    assert 0 < have < len(WEIGHTS)
    assert pull_name(REFERENCE) == REFERENCE
    hub.pause = lambda: None
    hub.log.clear()
    seen: list[int] = []
    assert (pull(REFERENCE, lambda done, total: seen.append(done)) / "model.safetensors").read_bytes() == WEIGHTS
    assert ("model.safetensors", f"bytes={have}-") in hub.fetched()
    assert seen[1] > have


def test_other_bytes_than_the_hub_promised_are_thrown_away(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from kurabe.testing import hub as module

    real = module._etag
    monkeypatch.setattr(module, "_etag", lambda name, content: real(name, content[::-1]))
    with pytest.raises(DownloadError, match="it was thrown away"):
        pull("gguf:owner/gguf/tiny.Q4_0.gguf")
    assert list(cache_folder().rglob("*.incomplete")) == []


@pytest.mark.parametrize(
    ("stated", "come", "says"),
    [
        (5, 2_000_000, "config.json has more than the 5 bytes"),
        (5, 2, "config.json has 2 bytes, not the 5"),
        (None, MOST_BYTES + 1, "config.json has more than the 134,217,728 bytes"),
    ],
)
def test_a_small_file_has_no_more_bytes_than_it_may(stated: int | None, come: int, says: str, hub: Hub) -> None:
    hub.models["owner/small"]["config.json"] = b" " * come
    hub.states["config.json"] = stated
    with pytest.raises(DownloadError, match=re.escape(says)):
        pull(REFERENCE)
    assert [path for path in cache_folder().rglob("*") if path.is_file() and path.stat().st_size == come] == []
    assert sum(path.stat().st_size for path in cache_folder().rglob("*.incomplete")) <= MOST_BYTES


def test_a_small_file_of_a_size_that_is_not_stated(hub: Hub) -> None:
    hub.states["config.json"] = None
    assert names(pull(REFERENCE)) == NEEDED


@pytest.mark.parametrize(
    ("name", "stated", "says"),
    [
        ("tokenizer.json", MOST_BYTES + 1, "a tokenizer.json of 134,217,729 bytes, more than any model needs"),
        ("model.safetensors", None, "None is not a file's size"),
    ],
)
def test_a_size_that_no_file_has_is_refused_before_it_comes(name: str, stated: int | None, says: str, hub: Hub) -> None:
    hub.states[name] = stated
    with pytest.raises(DownloadError, match=says):
        pull(REFERENCE)
    assert hub.fetched() == []


def test_a_gated_model_needs_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add("owner/small")
    with pytest.raises(
        DownloadError, match=re.escape("accept its terms at https://huggingface.co/owner/small, and set")
    ):
        pull(REFERENCE)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert names(pull(REFERENCE)) == NEEDED


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("hf:owner/nothing", "has no model 'owner/nothing' that you may see; check the name"),
        ("gguf:owner/nothing/m.gguf", "there is no file 'owner/nothing/m.gguf' on this machine"),
        ("gguf:owner/gguf/tiny.Q4_1.gguf", "no file 'tiny.Q4_1.gguf'; did you mean 'tiny.Q4_0.gguf'"),
        ("hf:owner/gguf", "but GGUF files: name one of them, as in 'gguf:owner/gguf/tiny.Q4_0.gguf'"),
        ("hf:owner/pickles", "only pickles, which can run code and are never loaded"),
        ("hf:owner/empty", "holds no .safetensors; look for another copy"),
        ("hf:owner/torn", "its index names files that it does not have"),
    ],
)  # fmt: skip
def test_what_the_hub_does_not_have(reference: str, part: str, hub: Hub) -> None:
    hub.models["owner/pickles"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    hub.models["owner/empty"] = {"README.md": b"x"}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    hub.models["owner/torn"] = {
        "config.json": b"{}",
        "model-00001-of-00002.safetensors": b"x",
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    with pytest.raises(DownloadError) as caught:
        pull(reference)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_fails_or_is_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fails = 500
    with pytest.raises(DownloadError, match="it answered 500; check the network, or set HF_ENDPOINT"):
        pull(REFERENCE)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="ConnectError") as caught:
        pull(REFERENCE)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE turns the Hugging Face hub off; unset it"):
        pull(REFERENCE)


def test_offline_a_fetched_model_is_enough(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull(REFERENCE)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.log.clear()
    assert pull(REFERENCE) == path
    assert hub.log == []


def test_a_disk_without_room_is_said_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1_000_000))
    with pytest.raises(DownloadError, match=r"the disk is full: owner/small needs 1\.5 MB more in .* set HF_HOME"):
        pull(REFERENCE)
    assert hub.fetched() == []


def test_opening_says_what_to_type(hub: Hub) -> None:
    with pytest.raises(ModelError, match=r"not on this machine yet; fetch it with: kurabe pull hf:owner/small$"):
        open_model(REFERENCE)
    parsed = parse_reference("gguf:owner/gguf/tiny.Q4_0.gguf?revision=v1&context=100&adapter=owner/lora/a.gguf")
    assert pull_command(parsed) == "kurabe pull 'gguf:owner/gguf/tiny.Q4_0.gguf?revision=v1&adapter=owner/lora/a.gguf'"
    assert hub.log == []


def test_an_adapter_is_fetched_and_counts(hub: Hub) -> None:
    hub.models["owner/lora"] = {"a.gguf": b"adapter", "b.gguf": b"another"}
    plain = "gguf:owner/gguf/tiny.Q4_0.gguf"
    pull(plain)
    reference = f"{plain}?adapter=owner/lora/a.gguf"
    assert pull_name(reference) == reference
    pull(reference)
    assert pull_name(reference) is None
    pull(other := f"{plain}?adapter=owner/lora/b.gguf")
    assert len({fingerprint(plain), fingerprint(reference), fingerprint(other)}) == 3
    hub.models["owner/peft"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x", "README.md": b""}
    pull(f"{REFERENCE}?adapter=owner/peft")
    assert names(cached(HubName("owner/peft")) or Path()) == {"adapter_config.json", "adapter_model.safetensors"}


def test_python_files_come_only_where_they_are_asked_for() -> None:
    path = pull(f"{REFERENCE}?remote_code=owner/small")
    assert names(path) == NEEDED | {"modeling_own.py"}


def test_what_is_in_the_cache_is_listed() -> None:
    assert kept() == []
    pull(REFERENCE)
    pull("gguf:owner/gguf/q4/big-00001-of-00003.gguf")
    found = {model.name: model.size for model in kept()}
    assert found == {"owner/small": len(WEIGHTS), "owner/gguf/q4/big-00001-of-00003.gguf": 600_000}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/repo", HubName("owner/repo")),
        ("owner/repo/m.gguf", HubName("owner/repo", "m.gguf")),
        ("owner/repo/a/b/m-00002-of-00002.gguf", HubName("owner/repo", "a/b/m-00001-of-00002.gguf")),
        ("repo", None),
        ("models/m.gguf", None),
        ("../repo", None),
        ("./repo/m.gguf", None),
        ("/owner/repo/m.gguf", None),
        ("owner/re--po", None),
        ("owner/repo/../m.gguf", None),
        ("owner/repo/a\\..\\m.gguf", None),
        ("owner/repo//m.gguf", None),
        ("owner/repo/m.bin", None),
        ("C:\\models\\m.gguf", None),
    ],
)
def test_names(text: str, expected: HubName | None) -> None:
    assert hub_name(text) == expected


def test_absurd_numbers_of_parts_are_no_parts() -> None:
    assert split_parts("m-00001-of-99999.gguf") == ["m-00001-of-99999.gguf"]
    assert split_parts("m-00001-of-00000.gguf") == ["m-00001-of-00000.gguf"]


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    assert cache_folder() == Path("/cache")
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", "~/home")
    assert cache_folder() == Path.home() / "home" / "hub"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/huggingface/hub")


def test_an_index_that_points_out_of_its_folder(tmp_path: Path) -> None:
    from kurabe.models.files.hub import weight_files

    (tmp_path / "other.safetensors").write_bytes(b"")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    assert weight_files(folder) == []


def test_a_fetched_model_opens(hub: Hub, tiny_chat: Path) -> None:
    hub.models["owner/tiny"] = {path.name: path.read_bytes() for path in tiny_chat.iterdir() if path.is_file()}
    pull("hf:owner/tiny")
    with open_model("hf:owner/tiny") as here, open_model(f"hf:{tiny_chat}") as own:
        assert here.reference == "hf:owner/tiny"
        answers = [model.complete("one two", max_tokens=5, temperature=0) for model in (here, own)]
    assert answers[0] == answers[1]


def test_an_embedding_model_comes_with_its_modules(hub: Hub) -> None:
    needed = {
        "config.json": b"{}",
        "modules.json": b"[]",
        "model.safetensors": b"x",
        "1_Pooling/config.json": b"{}",
        "2_Dense/model.safetensors": b"y",
    }
    hub.models["sentence-transformers/small"] = needed | {"onnx/model.onnx": b"o", "2_Dense/pytorch_model.bin": b"p"}
    reference = "sentence-transformers:small"
    with pytest.raises(ModelError, match="kurabe pull sentence-transformers:sentence-transformers/small"):
        model_folder(parse_reference(reference))
    path = pull(reference)
    assert names(path) == set(needed)
    assert model_folder(parse_reference(reference)) == path
    assert pull("sentence-transformers:sentence-transformers/small") == path
