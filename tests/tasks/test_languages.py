"""The language of a task is known from its texts, and models are asked in it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from jinja2.sandbox import SandboxedEnvironment

from kurabe.contest.prepare import make_entrants
from kurabe.contestants.prompted.prompt import Prompt
from kurabe.tasks.languages import LANGUAGES, language_of, prompt_in
from kurabe.tasks.spec import Kind
from kurabe.tasks.suggest import suggest
from kurabe.tasks.task import Task

TEXTS = {
    "en": "The kettle was delivered on time and it is as good as the one that I had before, for which I am grateful.",
    "de": "Der Kessel wurde pünktlich geliefert und ist so gut wie der alte; ich bin mit dem Kauf sehr zufrieden.",
    "fr": "La bouilloire est arrivée à temps et elle est aussi bonne que la précédente, dont je vous remercie.",
    "es": "El hervidor llegó a tiempo y es tan bueno como el que tenía antes, por lo que estoy muy contento con él.",
    "pt": "A chaleira chegou a tempo e é tão boa como a que eu tinha, por isso estou muito contente com a compra.",
    "it": "Il bollitore è arrivato in tempo ed è buono come quello che avevo prima, e non è caro; sono contento.",
    "ja": "ケトルは時間通りに届きました。以前のものと同じくらい良いです。",
    "zh": "水壶按时送到，和我以前的一样好，非常满意。",
    "ko": "주전자가 제시간에 도착했고 이전 것만큼 좋습니다.",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_is_known_from_a_few_sentences(language: str) -> None:
    assert language_of([TEXTS[language]]) == language


@pytest.mark.parametrize(
    "texts",
    [
        ["AMD K6-2 350 MHz, 64 MB RAM"],
        ["Die Hard", "Los Angeles", "El Paso"],  # names are no sentences
        ["r", "p", "e"] * 20,  # a column of codes, as `fl` of ggplot2's mpg
        ["Привет, как дела?"],  # known here as none, so asked in English
        ["The review said 'très bien' and 'muy bien', and that is all it is about for me."],
        [""],
        ["東"],
    ],
)
def test_other_texts_are_english_or_what_they_hold(texts: list[str]) -> None:
    assert language_of(texts) == ("zh" if texts == ["東"] else "en")


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
@pytest.mark.parametrize("kind", ["number", "label", "text"])
def test_a_prompt_names_target_and_labels_and_is_a_template(language: str, kind: Kind) -> None:
    prompt = prompt_in(language, kind, "unit_{price}", ["{{ a }}", "b"])
    assert prompt is not None
    assert prompt.system is not None
    assert "unit {price}" in prompt.system
    assert ("{{ a }}" in prompt.system) == (kind == "label")
    asked = SandboxedEnvironment().from_string(prompt.user).render(input="the text {{ x }}")
    assert asked.startswith("the text {{ x }}")
    assert "unit {price}" in asked
    assert prompt.prefill.startswith("unit {price}") == (kind != "text")


def japanese(tmp_path: Path) -> Path:
    rows = [f"この商品は{n}円でとても良いです,{'食品' if n % 2 else '家電'}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("説明,分類\n" + "\n".join(rows) + "\n")
    return tmp_path / "rows.csv"


def test_a_new_task_file_of_japanese_columns_asks_in_japanese(tmp_path: Path) -> None:
    written = yaml.safe_load(suggest(japanese(tmp_path), "分類", tmp_path))["prompt"]
    assert written["system"] == "分類を次の中から一つ選び、それだけを答えてください：家電、食品"
    assert written["user"] == "{{ input }}\n\n分類は何ですか。"
    assert written["prefill"] == "分類："


def test_a_task_without_a_prompt_is_asked_in_its_language_and_known_by_it(tmp_path: Path) -> None:
    frame = pl.read_csv(japanese(tmp_path))
    task = Task.from_frame(frame, target="分類", contestants=["prompt"], folder=tmp_path)
    (entrant,) = make_entrants(task, 0)
    assert isinstance(entrant.estimator, Prompt)
    assert entrant.estimator.prompt is not None
    assert "家電、食品" in (entrant.estimator.prompt.system or "")
    own = {"user": "{{ input }}"}
    (stated,) = make_entrants(
        Task.from_frame(frame, target="分類", contestants=["prompt"], prompt=own, folder=tmp_path), 0
    )
    assert stated.estimator.prompt.system is None
    assert stated.key != entrant.key


def test_an_english_task_has_the_prompt_and_the_key_that_it_had(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": [TEXTS["en"]] * 60, "price": np.arange(60) / 7})
    (entrant,) = make_entrants(Task.from_frame(frame, target="price", contestants=["prompt"], folder=tmp_path), 0)
    assert entrant.estimator.prompt is None
