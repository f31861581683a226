import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import TaskError
from kurabe.tasks.file import _Loader, contestant_specs, json_schema, load_spec, parse_spec
from kurabe.tasks.schema import DESCRIPTIONS, SCHEMA_FILE
from kurabe.tasks.spec import Budget, Data, Example, Prompt, Split, TaskSpec

PRICES = """\
name: prices
data: {train: items.jsonl, test: later.jsonl}
input: "{{ title }} {{ description }}"
target: price
kind: number
metric: mean_absolute_error
prompt: {system: "You estimate prices.", user: "How much?\\n\\n{{ input }}", prefill: "Price is $"}
contestants: [constant, tfidf_ridge, {prompt: {model: "gguf:smollm2-135m", examples: 3}}]
budget: {usd: 5, minutes: 30}
"""
SMALL: dict[str, Any] = {"name": "t", "data": "items.csv", "target": "price", "kind": "number"}


def small(**changes: Any) -> dict[str, Any]:
    return {**SMALL, **changes}


def message(source: Any, where: str = "task.yaml") -> str:
    with pytest.raises(TaskError) as caught:
        parse_spec(source, where)
    return str(caught.value)


def test_the_task_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES, encoding="utf-8")
    assert load_spec(path) == TaskSpec(
        name="prices",
        data=Data(train="items.jsonl", test="later.jsonl"),
        input="{{ title }} {{ description }}",
        target="price",
        kind="number",
        metric="mean_absolute_error",
        prompt=Prompt(system="You estimate prices.", user="How much?\n\n{{ input }}", prefill="Price is $"),
        contestants=("constant", "tfidf_ridge", {"prompt": {"model": "gguf:smollm2-135m", "examples": 3}}),
        budget=Budget(usd=5, minutes=30),
    )


def test_a_plain_text_as_data_is_its_source() -> None:
    assert parse_spec(SMALL).data == Data(source="items.csv")


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps(SMALL), encoding="utf-8-sig")
    assert load_spec(path).name == "t"


def test_a_number_in_powers_of_ten_is_a_number_and_a_date_stays_a_text() -> None:
    spec = parse_spec(
        "name: 2024-01-01\ndata: a.csv\ntarget: y\nkind: number\ncontestants: [{a: {alpha: 1e-3, b: 2E5}}]"
    )
    assert spec.name == "2024-01-01"
    assert spec.contestants == ({"a": {"alpha": 0.001, "b": 200_000.0}},)


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    with pytest.raises(TaskError, match=r"no task file .*price\.yaml; did you mean 'prices\.yaml'"):
        load_spec(tmp_path / "price.yaml")
    with pytest.raises(TaskError, match="cannot be read"):
        load_spec(tmp_path)
    with pytest.raises(TaskError, match="cannot be read"):
        load_spec("a\x00b")


def test_a_file_in_another_encoding_says_where(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_bytes("name: café".encode("cp1252"))
    with pytest.raises(TaskError, match=r"t\.yaml is not UTF-8 \(byte 9\)"):
        load_spec(tmp_path / "t.yaml")


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        (2, "data: {trian: items.jsonl, test: later.jsonl}", "data.trian: no key 'trian'; did you mean 'train'?"),
        (4, "tagret: price", "tagret: no key 'tagret'; did you mean 'target'?"),
        (5, "kind: nubmer", "kind: expected one of number, label, text, got 'nubmer'; did you mean 'number'?"),
        (4, "target: yes", "target: expected a text, got true or false. Put quotes around it to make it a text"),
        (4, "target: ''", "target: expected a text of length >= 1"),
        (9, "budget: {usd: lots}", "budget.usd: expected a number or nothing, got a text"),
        (9, "budget: {usd: -1}", "budget.usd: expected a number >= 0.0"),
        (7, "prompt: {examples: [{input: a, outptu: b}]}", "prompt.examples[0].outptu: no key 'outptu'; did you mean"),
        (3, 'input: "{{ title"', "input: template, line 1: unexpected end of template"),
        (7, 'prompt: {user: "{% if %}"}', "prompt.user: template, line 1: "),
        (8, "contestants: []", "contestants: name at least one"),
        (8, "contestants: [{a: {}, b: {}}]", "contestants[0]: one contestant an entry"),
        (8, "contestants: [x, {as: b}]", "contestants[1]: one contestant an entry"),
        (8, "contestants: [{a: 3}]", "contestants[0].a: expected settings as a mapping"),
        (8, "contestants: [{a: {}, as: 3}]", "contestants[0].as: expected a name for the board, got 3"),
        (2, "data: {}", "data: name the rows"),
        (2, "data: {source: a.csv, train: b.csv}", "data: either one `source`, or `train` and `test`"),
        (2, "data: {train: b.csv}", "data: name the rows"),
        (2, "data: {source: a.csv, encoding: utf8000}", "data.encoding: no encoding 'utf8000'; did you mean 'utf-8'"),
        (2, "data: {source: a.csv, encoding: rot13}", "data.encoding: no encoding 'rot13'"),
        (2, "data: {source: a.csv, split: {test: 0}}", "data.split.test: the test part cannot be empty"),
        (2, "data: {source: a.csv, split: {test: 1.5}}", "data.split.test: 1.5 is neither a share below 1"),
        (2, "data: {source: a.csv, split: {test: 0.7, validation: 0.3}}", "data.split: test 0.7 and validation"),
        (2, "data: {source: a.csv, split: {column: a, group: b}}", "data.split: either `column` or `group`"),
        (2, "data: {train: a, test: b, split: {test: 0.3}}", "data.split: with a `test` file the split is made"),
        (2, "data: {source: a.csv, split: {seed: -1}}", "data.split.seed: expected a whole number >= 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_remedy(line: int, wrong: str, said: str) -> None:
    lines = PRICES.splitlines()
    lines[line - 1] = wrong
    assert message("\n".join(lines)).startswith(f"task.yaml, line {line}: {said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": []}, "columns: name at least one column"),
        ({"columns": ["a", "a"]}, "columns: 'a' stands here twice"),
        ({"columns": ["a", "price"]}, "columns: the target 'price' cannot be an input"),
        ({"data": 3}, "data: expected a mapping, got a whole number"),
        ({"name": None}, "name: expected a text, got nothing"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    assert message(small(**changes)).startswith(f"task.yaml: {said}")


def test_a_missing_key_is_named() -> None:
    assert message({"name": "t"}) == "task.yaml: 'data' is missing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "task.yaml is empty"),
        ("# only a comment", "task.yaml is empty"),
        ("- a list", "task.yaml: expected a mapping, got a list"),
        ("name: a\nname: b", "line 2: 'name' stands here twice"),
        ("name: a\ndata: {source: a, source: b}", "line 2: 'source' stands here twice"),
        ("name: a\ninput: {{ title }}", "line 2"),
        ("name: a\n\tkind: b", "line 2, column 1: not valid YAML: "),
        ("a: [1, 2", "line 2, column 1: not valid YAML"),
        ("name: !!python/object/apply:os.system [ls]", "has no place in a task file"),
        ("name: !!binary aGk=", "has no place in a task file"),
        ("name: !!bool x", "not valid YAML"),
        ("a: .nan", "line 1: .nan is not a finite number"),
        ("a: -.inf", "line 1: -.inf is not a finite number"),
        ("a: &a [*a]", "nested too deep or too large"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
        ), "nested too deep or too large"),
        ("[" * 5000, "task.yaml"),
        ("a: \x07", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("x: " + "9" * 5000, "not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_task_file_is_one_clear_message(text: str, said: str) -> None:
    assert said in message(text)


def test_a_template_without_quotes_is_explained() -> None:
    assert 'A template goes in quotes: input: "{{ title }}"' in message("name: a\ninput: {{ title }} {{ price }}")


def test_contestants_are_taken_apart_and_labels_made_unique() -> None:
    entries: tuple[Any, ...] = (
        "constant",
        {"constant": {"strategy": "median"}, "as": "the median"},
        {"constant": None},
        {"prompt": {"model": "gguf:smollm2-135m"}},
        {"prompt": {"model": "gguf:smollm2-135m", "examples": 3}},
        {"prompt": {"model": "gguf:smollm2-135m", "examples": 3, "choose": "nearest"}},
        {"prompt": {"model": "gguf:models/small.gguf", "examples": [{"input": "a", "output": "b"}]}},
        "prompt",
        {"prompt": {}},
        "my.module:make",
    )
    specs = contestant_specs(parse_spec(small(contestants=list(entries))))
    assert [spec.label for spec in specs] == [
        "constant",
        "the median",
        "constant 2",
        "prompt smollm2-135m",
        "prompt smollm2-135m, 3 examples",
        "prompt smollm2-135m, 3 nearest",
        "prompt small.gguf, 1 example",
        "prompt",
        "prompt 2",
        "my.module:make",
    ]
    assert specs[1].name == "constant"
    assert specs[1].settings == {"strategy": "median"}
    assert contestant_specs(parse_spec(SMALL)) == ()


def test_contestants_that_would_be_called_the_same_are_told_apart_by_their_settings() -> None:
    entries: tuple[Any, ...] = (
        {"tune": {"rank": 4}},
        {"tune": {"rank": 8, "system": "x" * 31}},
        {"tune": {"rank": 16, "system": "y\n"}},
        {"human": {"rows": 5}},
        {"human": {"rows": 8}},
        {"prompt": {"model": "gguf:smollm2-135m", "max_tokens": 8}},
        {"prompt": {"model": "gguf:smollm2-135m", "max_tokens": 8, "calibrate": True}},
        {"prompt": {"model": "gguf:smollm2-135m", "max_tokens": 8, "calibrate": True}},
        {"constant": {}, "as": "a"},
        {"constant": {"strategy": "median"}, "as": "a"},
    )
    specs = contestant_specs(parse_spec(small(contestants=list(entries))))
    assert [spec.label for spec in specs] == [
        "tune",
        "tune, rank 8",
        "tune, rank 16",
        "human",
        "human 2",
        "prompt smollm2-135m",
        "prompt smollm2-135m, calibrate true",
        "prompt smollm2-135m, calibrate true 2",
        "a",
        "a, strategy median",
    ]


def test_the_schema_file_is_current() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema(), "run: python -m kurabe.tasks.file"


def test_the_module_writes_the_schema_and_changes_nothing_in_a_current_one() -> None:
    before = SCHEMA_FILE.read_bytes()
    subprocess.run([sys.executable, "-m", "kurabe.tasks.file"], check=True)
    assert SCHEMA_FILE.read_bytes() == before


def test_the_schema_describes_every_key_and_accepts_what_is_accepted() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for definition in schema["$defs"].values():
        assert all(field["description"].endswith(".") for field in definition["properties"].values())
    assert set(DESCRIPTIONS) == set(schema["$defs"])
    for good in (yaml.safe_load(PRICES), SMALL):
        validator.validate(good)
    for bad in (small(kind="x"), small(data={"trian": "x"}), small(extra=1), {"name": "t"}):
        assert not validator.is_valid(bad)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4)
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=3) | anything,
        "data": st.dictionaries(st.sampled_from(["source", "train", "test", "split", "encoding", "x"]), anything)
        | anything,
        "target": st.text(max_size=3) | anything,
        "kind": st.sampled_from(["number", "label", "text", "x"]),
        "input": anything,
        "columns": st.lists(st.text(max_size=2)) | anything,
        "prompt": st.dictionaries(st.sampled_from(["system", "user", "examples"]), anything) | anything,
        "contestants": st.lists(anything) | anything,
        "budget": anything,
        "checks": st.lists(
            st.fixed_dictionaries(
                {}, optional={"format": st.text(max_size=6) | anything, "slice": anything, "style": anything}
            )
        )
        | anything,
    },
)


@settings(max_examples=300)
@given(anything | near_misses)
def test_any_structure_is_a_task_or_a_task_error(raw: Any) -> None:
    outcome: TaskSpec | TaskError
    try:
        outcome = parse_spec(raw)
    except TaskError as error:
        outcome = error
    assert isinstance(outcome, TaskSpec) or str(outcome).startswith("the task")


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from("abn: \n-[]{}&*!'\"|>#%@,0.1e\t?<~"), max_size=60) | st.text(max_size=40))
def test_any_text_is_a_task_or_a_task_error(text: str) -> None:
    with pytest.raises(TaskError):
        parse_spec(text)


@settings(max_examples=100)
@given(near_misses)
def test_any_structure_written_as_yaml_is_a_task_or_a_task_error(raw: Any) -> None:
    try:
        text = yaml.safe_dump(raw, allow_unicode=True)
    except yaml.YAMLError:
        return
    try:
        parse_spec(text)
    except TaskError:
        return


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="{}\ufeff\ufffe\uffff\x85"), min_size=1
)
words = words.filter(lambda word: word.strip() != "" and "#" not in word)
names = words.filter(lambda word: word not in ("as", "y"))
sizes = st.floats(0.01, 0.4) | st.integers(1, 1000).map(float)
splits = st.builds(Split, test=sizes, validation=sizes, seed=st.integers(0, 2**32 - 1), group=st.none() | words)
values = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words
)
specs = st.builds(
    TaskSpec,
    name=words,
    data=st.builds(Data, source=words, split=st.none() | splits),
    target=st.just("y"),
    kind=st.sampled_from(["number", "label", "text"]),
    input=st.none() | words,
    columns=st.none() | st.lists(names, min_size=1, unique=True).map(tuple),
    metric=st.none(),
    prompt=st.none() | st.builds(
        Prompt, system=st.none() | words, user=words, prefill=words,
        examples=st.lists(st.builds(Example, input=words, output=words | st.integers(0, 99))).map(tuple),
    ),
    contestants=st.none() | st.lists(
        names | st.builds(lambda name, settings: {name: settings}, names, st.none() | st.dictionaries(words, values)),
        min_size=1,
    ).map(tuple),
    budget=st.builds(Budget, usd=st.none() | st.floats(0, 1e6), minutes=st.none() | st.floats(0.1, 1e6)),
)  # fmt: skip


class Dumper(yaml.SafeDumper):
    """Puts quotes around every text that our reader would take for something else, such as `1e3`."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


@settings(max_examples=100)
@given(specs)
def test_a_task_written_as_yaml_is_read_as_itself(spec: TaskSpec) -> None:
    assert parse_spec(yaml.dump(msgspec.to_builtins(spec), Dumper=Dumper, allow_unicode=True, sort_keys=False)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "[" * 20_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "? " * 20_000,
        "a:\n" + "".join(" " * n + "a:\n" for n in range(1, 80)),
    ],
)
def test_a_file_that_is_nested_too_deep_is_one_message(text: str) -> None:
    with pytest.raises(TaskError, match=r"nested too deep|not valid YAML"):
        parse_spec(text)


def test_aliases_that_unfold_without_end_are_one_message() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(TaskError, match="too large"):
        parse_spec("\n".join(lines))


def test_a_file_of_many_megabytes_is_one_message() -> None:
    with pytest.raises(TaskError, match="characters"):
        parse_spec("a: " + "x" * 6_000_000)
