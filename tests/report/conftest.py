"""Made-up contests with realistic numbers, and their boards."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from kurabe.contest.board import Board, compute_board
from kurabe.contest.evidence import Entry, Evidence, Judged, Leaks
from kurabe.contest.style import FIRST, NEITHER, SECOND, left_to_judge
from kurabe.tasks.spec import Check, Style

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&<!-- {{ 7*7 }} \u2028 \x1b[31m [bold]red[/bold]"
)
CONTESTANTS = (
    "blend", "gradient_boosting", "embeddings_ridge", "tfidf_ridge", "random_forest", "nearest_neighbours",
    "prompt_3_nearest", "bag_of_words_linear", "prompt_zero_shot", "linear", "constant_median", "constant_mean",
)  # fmt: skip
LABELS = (
    "Clothing", "Jewellery", "Footwear", "Mobiles & Accessories", "Automotive", "Home Decor", "Computers",
    "Watches", "Toys & School Supplies", "Kitchen & Dining", "Tools & Hardware", "Beauty", "Baby Care", "Pens", "Books",
    "Gaming", "Cameras", "Furniture", "Bags", "Eyewear",
)  # fmt: skip
WORDS = (
    "steel", "blue", "usb", "cable", "ceramic", "lamp", "leather", "wireless", "kit",
    "pro", "mini", "oak", "brass", "classic", "set", "red", "cotton", "filter",
)  # fmt: skip


def texts(rng: np.random.Generator, n: int, words: int = 14) -> list[str]:
    return [" ".join(rng.choice(WORDS, words)).capitalize() for _ in range(n)]


def entry(name: str, guesses: np.ndarray, rng: np.random.Generator, **changes: Any) -> Entry:
    n = len(guesses)
    prompted = name.startswith("prompt")
    values: dict[str, Any] = {
        "name": name, "model": "gguf:smollm2-135m" if prompted else None, "status": "done", "reason": None,
        "guesses": guesses, "answered": np.ones(n, bool), "unread": np.zeros(n, bool),
        "raw": tuple(f"The price is ${g}" for g in guesses) if prompted else None,
        "usd": 0.0, "fit_seconds": float(rng.gamma(2, 1.5)), "predict_seconds": n / float(rng.lognormal(7, 2)),
        "peak_bytes": int(rng.integers(80, 900)) * 1_000_000,
    }  # fmt: skip
    return Entry(**(values | changes))


def number_evidence(n: int = 250, names: tuple[str, ...] = CONTESTANTS, seed: int = 1) -> Evidence:
    rng = np.random.default_rng(seed)
    truth = np.round(np.exp(rng.normal(4.0, 1.1, n)), 2)
    rows = pl.DataFrame({
        "input": texts(rng, n), "price": truth, "category": rng.choice(["Tools", "Toys", "Auto", "Office", "Music"], n),
        "weight": np.round(rng.gamma(1.5, 2.0, n), 3), "used": rng.random(n) < 0.3,
    })  # fmt: skip
    entries = []
    for i, name in enumerate(names):
        noise = 0.35 + 0.07 * i
        guesses = np.round(np.exp(np.log(truth) * (1 - 0.06 * i) + 0.24 * i + rng.normal(0, noise, n)), 2)
        if name.startswith("constant"):
            guesses = np.full(n, np.median(truth) if "median" in name else truth.mean())
        entries.append(entry(name, guesses, rng))
    return Evidence("prices", "number", "mean_absolute_error", truth, rows, float(np.median(truth)), tuple(entries),
                    train_rows=4 * n, run="20261121-051803-k3f9", started="2026-11-21T05:18:03Z")  # fmt: skip


def label_evidence(n: int = 400, labels: int = 20, seed: int = 2) -> Evidence:
    rng = np.random.default_rng(seed)
    kinds = [LABELS[i] if i < len(LABELS) else f"label {i}" for i in range(labels)]
    weights = 1 / np.arange(1, labels + 1)
    truth = np.array(rng.choice(kinds, n, p=weights / weights.sum()), dtype=object)
    entries = []
    for i, name in enumerate(CONTESTANTS[:8]):
        wrong = rng.random(n) < 0.08 + 0.05 * i
        guesses = np.where(wrong, np.array(rng.choice(kinds, n), dtype=object), truth)
        entries.append(entry(name, guesses, rng, raw=None))
    rows = pl.DataFrame({"input": texts(rng, n), "brand": rng.choice(["A", "B", "C"], n), "category": list(truth)})
    return Evidence("categories", "label", "accuracy", truth, rows, kinds[0], tuple(entries), train_rows=1600,
                    run="r2", started="2026-11-21T05:18:03Z")  # fmt: skip


def text_evidence(n: int = 120, seed: int = 3) -> Evidence:
    rng = np.random.default_rng(seed)
    truth = np.array(texts(rng, n, 6), dtype=object)
    entries = []
    for i, name in enumerate(("prompt_3_nearest", "prompt_zero_shot", "nearest_neighbours", "constant")):
        guesses = np.array([
            " ".join(w if rng.random() > 0.15 * (i + 1) else str(rng.choice(WORDS)) for w in t.split()) for t in truth
        ], dtype=object)  # fmt: skip
        entries.append(entry(name, guesses, rng))
    rows = pl.DataFrame({"input": texts(rng, n), "topic": rng.choice(["pay", "ship"], n)})
    return Evidence("answers", "text", "token_f1", truth, rows, str(truth[0]), tuple(entries), run="r3",
                    started="2026-11-21T05:18:03Z")  # fmt: skip


def checked() -> Evidence:
    """Every kind of check: a judge that stopped early and is not always of one mind, and hostile words."""
    base = text_evidence()
    style = Style(rubric=f"short {HOSTILE}", judge="openai:gpt-5.1", rows=30)
    checks = (
        Check(format=r"The price is \$.*"), Check(slice="topic = 'pay'", label=f"edge {HOSTILE}"),
        Check(style=style, label="tone"), Check(format={"type": "object"}, label="cost"),
    )  # fmt: skip
    evidence = Evidence(**(base.__dict__ | {"checks": checks}))
    left = left_to_judge(evidence, style, [one.name for one in base.entries], {})
    said = {one.key: (FIRST, SECOND, NEITHER, None)[number % 7 % 4] for number, one in enumerate(left[:-8])}
    return Evidence(**(evidence.__dict__ | {"judged": {2: Judged(said, 0.25, f"the budget of $1 {HOSTILE}")}}))


def board_of(evidence: Evidence, resamples: int = 200) -> Board:
    """The board with few resamples: the report shows intervals, it does not make them."""
    return compute_board(evidence, resamples)


def without(e: Entry, status: str, reason: str) -> Entry:
    """`e` as an entry that never answered."""
    n = len(e.guesses)
    nothing = np.full(n, np.nan) if e.guesses.dtype != object else np.full(n, None, dtype=object)
    changes = {"status": status, "reason": reason, "guesses": nothing, "answered": np.zeros(n, bool),
               "unread": np.zeros(n, bool), "raw": None, "fit_seconds": None, "predict_seconds": None,
               "peak_bytes": None}  # fmt: skip
    return Entry(**(e.__dict__ | changes))


def every_status() -> Evidence:
    """Done, partial, skipped and failed entries; unread answers, leaks, hostile and long names, an unknown cost."""
    base = number_evidence()
    e = list(base.entries)
    n = len(base.truth)
    unread = np.zeros(n, bool)
    unread[[3, 50, 51]] = True
    raw = tuple(f"Sorry, {HOSTILE}" if bad else "$12" for bad in unread)
    e[6] = Entry(**(e[6].__dict__ | {"unread": unread, "raw": raw, "usd": None,
                                     "guesses": np.where(unread, base.fallback, e[6].guesses)}))  # fmt: skip
    answered = np.arange(n) < 90
    e[8] = Entry(**(e[8].__dict__ | {"status": "partial", "reason": "stopped", "answered": answered, "usd": 0.0123,
                                     "guesses": np.where(answered, e[8].guesses, np.nan)}))  # fmt: skip
    e[5] = without(e[5], "failed", f"MemoryError {HOSTILE}")
    e[9] = without(
        e[9], "skipped", "no answers yet; run `kurabe human prices.yaml` or give /home/ann/secret/answers.csv"
    )
    e[4] = Entry(**(e[4].__dict__ | {"name": "random_forest_with_a_rather_long_name_漢字の名前 and more of it still"}))
    e[3] = Entry(**(e[3].__dict__ | {"name": HOSTILE}))
    rows = base.rows.with_columns(
        pl.when(pl.int_range(n) < 3).then(pl.lit(HOSTILE)).otherwise(pl.col("input")).alias("input"),
        pl.when(pl.int_range(n) < 3).then(pl.lit(HOSTILE)).otherwise(pl.col("category")).alias("category"),
    )
    return Evidence(**(base.__dict__ | {"entries": tuple(e), "rows": rows, "leaks": Leaks((4, 9), (17,))}))


def nothing_ran() -> Evidence:
    base = number_evidence(30)
    gone = tuple(without(e, "skipped", "needs OPENAI_API_KEY") for e in base.entries[:3])
    return Evidence(**(base.__dict__ | {"entries": gone}))


KINDS: dict[str, Callable[[], Evidence]] = {
    "number": number_evidence, "label": label_evidence, "text": text_evidence, "every_status": every_status,
    "checks": checked, "nothing_ran": nothing_ran, "one": lambda: number_evidence(names=("constant_median",)),
}  # fmt: skip


@pytest.fixture(scope="session")
def boards() -> dict[str, Board]:
    """Boards by name: the keys of KINDS."""
    return {name: board_of(make()) for name, make in KINDS.items()}


@pytest.fixture(scope="session")
def make_board() -> Callable[[Evidence], Board]:
    return board_of


@pytest.fixture(scope="session")
def hostile() -> str:
    return HOSTILE


@pytest.fixture(scope="session")
def many_rows() -> Board:
    """20 contestants over 100,000 rows."""
    return board_of(number_evidence(100_000, tuple(f"contestant_{i:02d}" for i in range(20))), resamples=10)
