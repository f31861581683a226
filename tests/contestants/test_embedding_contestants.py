"""Contestants that embed take any embedder by its reference."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from model2vec import StaticModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from kurabe.api import Task
from kurabe.contest.prepare import make_entrants
from kurabe.contestants.features import Embeddings
from kurabe.contestants.frames import texts
from kurabe.contestants.shared import Shared
from kurabe.contestants.trained.linear import EmbeddingsRidge
from kurabe.contestants.trained.neighbours import NearestNeighbours
from kurabe.contestants.trained.trees import GradientBoosting, RandomForest

WORDS = ["red", "blue", "wine", "bike", "old", "new"]


def frame() -> pl.DataFrame:
    texts = [" ".join(words) for words in product(["old", "new", "red", "blue"], ["red", "blue"], ["wine", "bike"])] * 4
    return pl.DataFrame({"text": texts, "price": [20.0 + 60.0 * ("wine" in text) for text in texts]})


def save_model(folder: Path, seed: int = 0) -> Path:
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    StaticModel(np.random.default_rng(seed).normal(size=(7, 16)), tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", [EmbeddingsRidge, NearestNeighbours, RandomForest, GradientBoosting])
def test_a_contestant_sees_what_its_embedder_makes(kind: Any, tmp_path: Path) -> None:
    rows = frame()
    X, y = rows.select(pl.col("text").alias("input")), rows["price"].to_numpy()
    # The words' vectors are all that such a contestant could tell prices from; with the other embedder it sees no word.
    knows, knows_nothing = f"model2vec:{save_model(tmp_path / 'model')}", "model2vec:" + str(tmp_path / "empty")
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    StaticModel(np.ones((1, 16)), tokenizer).save_pretrained(tmp_path / "empty")
    assert Embeddings(model=knows).transform(X).shape == (len(X), 16)
    assert (Embeddings(model=knows_nothing).transform(X) == 0).all()
    first, second = (kind(embeddings=reference, kind="number").fit(X, y) for reference in (knows, knows_nothing))
    assert np.abs(first.predict(X) - y).mean() < 10
    if kind is EmbeddingsRidge:
        assert np.ptp(second.predict(X)) == 0


def test_embedders_do_not_take_each_others_vectors() -> None:
    X = frame().select(pl.col("text").alias("input"))
    shared = Shared().over(texts(X))
    assert Embeddings(model="fake:8").transform(X, shared).shape[1] == 8
    assert Embeddings(model="fake:9").transform(X, shared).shape[1] == 9
    assert Embeddings().transform(X, shared).shape[1] == 256


def make_task(folder: Path, reference: str) -> Task:
    return Task.from_frame(
        frame(), target="price", kind="number", columns=["text"], name="prices", split={"test": 16, "seed": 1},
        contestants=[{"embeddings_ridge": {"embeddings": reference}}], folder=folder,
    )  # fmt: skip


def test_a_folder_beside_the_task_and_a_changed_model(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    task = make_task(tmp_path, "model2vec:model")
    [entrant] = make_entrants(task, 0)
    assert entrant.estimator.embeddings == f"model2vec:{tmp_path / 'model'}"
    assert entrant.reason is None
    board = task.compete()
    assert [str(row.status) for row in board.rows] == ["done"]
    save_model(tmp_path / "model", seed=1)
    [changed] = make_entrants(task, 0)
    assert changed.key != entrant.key


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("model2vec:nobody/has-this", "kurabe pull model2vec:nobody/has-this"),
        ("wordllama:7", "no embedding model wordllama '7'"),
        ("fake:0", "1 to 4096"),
        ("gguf:no/such.gguf", "no/such.gguf"),
    ],
)
def test_one_whose_embedder_is_not_there_is_left_out_with_the_reason(tmp_path: Path, reference: str, says: str) -> None:
    [entrant] = make_entrants(make_task(tmp_path, reference), 0)
    assert entrant.reason is not None
    assert says in entrant.reason
