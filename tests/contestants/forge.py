"""Saved contestants with a few of their numbers changed and a digest that agrees, loaded and used in this process.

`python -m tests.contestants.forge FOLDER TRIES SEED` does so for each contestant here. A crash ends the process,
so the tests run it as a child.
"""

import hashlib
import io
import json
import os
import random
import re
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeRegressor

from kurabe.contestants import persist
from kurabe.contestants.checks import table
from kurabe.contestants.trained.constant import Constant
from kurabe.contestants.trained.linear import LinearFeatures, TfidfRidge
from kurabe.contestants.trained.neighbours import NearestNeighbours
from kurabe.contestants.trained.trees import GradientBoosting, RandomForest
from kurabe.errors import ContestantError

CHANGED = (-2, -1, 0, 1, 2, 3, 7, 255, 70_000, 2**31 - 1, 2**40)
MEMORY = 6 << 30


_DRAW = np.random.default_rng(0)
ROWS = _DRAW.normal(size=(60, 4))
CODES = _DRAW.integers(0, 4, size=(60, 3))
LABELS = np.array(["a", "b", "c"])[CODES[:, 0] % 3]
TEXTS = np.array([" ".join(f"w{code}" for code in row) for row in CODES])
NUMBERS = ROWS.sum(axis=1)
_TABLE, _PRICES = table("number")
_COLUMNS = _TABLE.select("thing", "size")

CONTESTANTS: list[tuple[Any, Any, Any]] = [
    (AdaBoostClassifier(n_estimators=3), ROWS, LABELS),
    (DecisionTreeRegressor(max_depth=3), ROWS, NUMBERS),
    (ExtraTreesRegressor(3, max_depth=3), ROWS, NUMBERS),
    (GradientBoostingClassifier(n_estimators=2), ROWS, LABELS),
    (HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=5), ROWS, LABELS),
    (KNeighborsClassifier(3), ROWS, LABELS),
    (KNeighborsClassifier(3, algorithm="brute"), ROWS, LABELS),
    (KNeighborsRegressor(3, algorithm="ball_tree"), ROWS, NUMBERS),
    (MLPRegressor(hidden_layer_sizes=5, tol=1e9, n_iter_no_change=1), ROWS, NUMBERS),
    (RandomForestClassifier(3, max_depth=3), ROWS, LABELS),
    (make_pipeline(OneHotEncoder(handle_unknown="ignore", drop="first"), Ridge()), CODES, NUMBERS),
    (make_pipeline(OneHotEncoder(min_frequency=15), LogisticRegression()), CODES, LABELS),
    (make_pipeline(CountVectorizer(), LogisticRegression()), TEXTS, LABELS),
    (make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS, LABELS),
    (Constant(strategy="mean"), _TABLE, _PRICES),
    (GradientBoosting(rounds=3), _TABLE, _PRICES),
    (GradientBoosting(rounds=2), _COLUMNS, table("label")[1]),
    (LinearFeatures(), _TABLE, _PRICES),
    (NearestNeighbours(), _TABLE, _PRICES),
    (RandomForest(trees=3), _TABLE, _PRICES),
    (TfidfRidge(max_features=50), _TABLE, _PRICES),
]


def forge(folder: Path, draw: random.Random) -> None:
    """Change a file of a saved contestant in one to three places, and let its manifest agree with no signature."""
    with ZipFile(folder / persist.FILE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(["schema.json", *members])  # half of what can crash stands in there
        members[name] = _CHANGES[Path(name).suffix](members[name], draw)
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    agree(folder, file.getvalue())


def agree(folder: Path, data: bytes) -> str:
    """Put other data in place, with a manifest that agrees and no signature; return what allows it."""
    digest = hashlib.sha256(data).hexdigest()
    manifest = json.loads((folder / persist.MANIFEST).read_bytes()) | {"sha256": digest, "signature": ""}
    (folder / persist.FILE).write_bytes(data)
    (folder / persist.MANIFEST).write_text(json.dumps(manifest))
    return f"sha256:{digest}"


def _changed_array(content: bytes, draw: random.Random) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    file = io.BytesIO()
    np.save(file, _changed(array, draw), allow_pickle=False)
    return file.getvalue()


def _changed(array: np.ndarray, draw: random.Random) -> np.ndarray:
    array = array.copy()
    if draw.random() < 0.15 and array.ndim:  # one shorter, one longer, of another type
        other: list[np.ndarray] = [array[:-1], np.concatenate([array, array[-1:]]), array.reshape(-1, 1)]
        return draw.choice([*other, *([array.astype(np.float32)] if array.dtype.kind in "iuf" else [])])
    if not array.size or array.dtype.kind in "US":
        return array
    field = array if array.dtype.names is None else array[draw.choice(array.dtype.names)]
    with np.errstate(all="ignore"):
        field.flat[draw.randrange(field.size)] = np.array(draw.choice(CHANGED)).astype(field.dtype)
    return array


def _changed_matrix(content: bytes, draw: random.Random) -> bytes:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    name = draw.choice([name for name in arrays if name != "format"])
    arrays[name] = _changed(arrays[name], draw)
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def _changed_schema(content: bytes, draw: random.Random) -> bytes:
    """One number in the description of the objects changed, or one attribute named as another."""
    text = content.decode()
    if draw.random() < 0.1:
        names = re.findall(r'"(\w+_|_\w+|predict|transform)": \{', text)
        return (
            text.replace(f'"{draw.choice(names)}": {{', f'"{draw.choice(names)}": {{', 1).encode() if names else content
        )
    places = list(re.finditer(r"(?<![\w.\"/-])-?\d+(?![\w.\"/-])|(?<=content\": \")\d+", text))
    if not places:
        return content
    place = draw.choice(places)
    return (text[: place.start()] + str(draw.choice(CHANGED)) + text[place.end() :]).encode()


_CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".npy": _changed_array,
    ".npz": _changed_matrix,
    ".json": _changed_schema,
    ".bin": lambda content, draw: content[: draw.randrange(len(content) + 1)],
}


def main(folder: Path, tries: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    refused = used = 0
    for number, (contestant, X, y) in enumerate(CONTESTANTS):
        one = folder / str(number)
        os.environ["XDG_DATA_HOME"] = str(folder / "theirs")
        persist.save(contestant.fit(X, y), one)
        os.environ["XDG_DATA_HOME"] = str(folder / "ours")
        assert (persist.load(one).predict(X) == contestant.predict(X)).all()
        files = {path: path.read_bytes() for path in one.iterdir()}
        for place in range(tries):
            for path, content in files.items():
                path.write_bytes(content)
            forge(one, random.Random(f"{seed} {number} {place}"))
            print(type(contestant).__name__, number, place, end=" ", flush=True)
            try:
                loaded = persist.load(one)
            except ContestantError as error:
                refused += 1
                print(str(error)[:200].replace("\n", " "), flush=True)
                continue
            used += 1
            print("loaded", flush=True)
            try:
                loaded.predict(X)
            except Exception as error:  # numbers of no use, which numpy and scikit-learn find themselves
                print(type(error).__name__, str(error)[:100].replace("\n", " "), flush=True)
    print(json.dumps({"refused": refused, "used": used}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
