import asyncio
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kurabe import aembed, embed, open_embedder
from kurabe.errors import InputError, ModelError
from kurabe.models.embeddings.wordllama import DIMENSIONS

HERE = "wordllama:256"
TEXTS = ["a red bicycle", "a crimson bike", "the stock market fell", "x", "価格は3万円です", "emoji 🎉"]


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_equals_wordllama_itself(dimensions: int) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wordllama.inference import WordLlamaInference  # it configures the root logger when imported
    root.handlers[:], root.level = handlers, level
    # wordllama 0.4 looks for its tokenizer in another folder than its wheel has, and would download it.
    package = Path(sys.modules["wordllama"].__path__[0])
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    table = load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"][:, :dimensions]
    theirs = WordLlamaInference(table, tokenizer).embed(TEXTS, norm=True)
    ours = embed(f"wordllama:{dimensions}", TEXTS)
    assert ours.shape == (len(TEXTS), dimensions)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_alike_texts_are_near() -> None:
    bicycle, bike, market, *_ = embed(HERE, TEXTS)
    assert bicycle @ bike > bicycle @ market + 0.2


def test_without_a_reference_it_is_wordllamas() -> None:
    expected = embed(HERE, TEXTS)
    assert np.array_equal(embed(TEXTS), expected)
    assert np.array_equal(embed(texts=TEXTS[0]), expected[:1])
    assert np.array_equal(asyncio.run(aembed(TEXTS)), expected)
    with pytest.raises(InputError, match=r"'a red bicycle'.* names no texts; write embed"):
        embed("a red bicycle")


def test_odd_texts() -> None:
    texts = ["", "\0", "a\0b", "🎉", "\ud800", " ", "word " * 200_000, "x" * 1_000_000]
    vectors = embed(HERE, texts)
    assert np.isfinite(vectors).all()
    norms = np.linalg.norm(vectors, axis=1)
    assert [norm == 0 for norm in norms] == [not text.strip() for text in texts]
    np.testing.assert_allclose(norms[norms > 0], 1, atol=1e-5)


def test_a_text_alone_and_among_others_is_the_same() -> None:
    assert np.array_equal(embed(HERE, TEXTS)[1], embed(HERE, TEXTS[1:2])[0])
    assert embed(HERE, []).shape == (0, 256)


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("wordllama:300", "There are: '64', '128', '256'"),
        ("fake:0", "1 to 4096"),
        ("fake:many", "1 to 4096"),
        ("fake:8 | fake:9", "is a chain"),
        ("sentence-transformer:x", "did you mean 'sentence-transformers'"),
        ("sentence-transformers:nobody/has-this", "kurabe pull sentence-transformers:nobody/has-this"),
        ("sentence-transformers:nothing", "kurabe pull sentence-transformers:sentence-transformers/nothing"),
        ("model2vec:./nothing", "there is no folder"),
        ("spacy:xx_no_such_md", "python -m spacy download xx_no_such_md"),
    ],
)
def test_unknown_references(reference: str, part: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_embedder(reference)
    assert part in str(caught.value)


def test_opens_no_socket_and_leaves_logging_alone() -> None:
    code = (
        "import logging, socket, sys\n"
        "def refuse(*args, **kwargs): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from kurabe import embed\n"
        "embed('wordllama:256', ['hello'])\n"
        "assert not logging.getLogger().handlers and 'wordllama' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
