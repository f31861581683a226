"""The JSON Schema of a task file, for editors: generated from the structs, kept as `schema.json`."""

import json
from pathlib import Path
from typing import Any

import msgspec

from kurabe.tasks.spec import TaskSpec

SCHEMA_FILE = Path(__file__).with_name("schema.json")

# What an editor shows beside each key.
DESCRIPTIONS: dict[str, dict[str, str]] = {
    "TaskSpec": {
        "name": "What the task is called on boards and in the journal.",
        "data": "Where the rows are: a file, a glob or hf://owner/name to be split, or `train` and `test` apart.",
        "target": "The column that must be found out.",
        "kind": "What must come out: a number, one of a few labels, or free text.",
        "input": "A Jinja2 template that turns a row into the text a contestant reads, such as '{{ title }}'. "
        "A column whose name is not an identifier is row['screen size']. Left out: one line a column.",
        "columns": "The columns contestants may use. Left out: those the template reads, or all but the target.",
        "metric": "How answers are scored. Left out: the kind's default.",
        "prompt": "What a language model is told.",
        "contestants": "Who takes part: names such as constant or tfidf_ridge, a name with its settings, or "
        "module:object for an estimator of your own, or a sweep over another's settings: "
        "{sweep: {contestant: tfidf_ridge, over: {alpha: {low: 1, high: 9}}}}. Left out: all that can run.",
        "budget": "Where a run stops.",
        "checks": "Further columns of the board: whether answers follow a format, the score on some of the test rows, "
        "and which answers a judge prefers.",
        "cluster": "A column that says which test rows belong together, such as a customer: intervals and tests count "
        "customers, not rows. Left out: `group` of the split.",
        "rows": "How many test rows a language model answers, the same for all, or all. Left out: 100.",
        "race": "Whether language models are asked no further once they are shown not to be the winner. Left out: "
        "false.",
    },
    "Data": {
        "source": "One table to be split: a file beside the task file (csv, tsv, jsonl, parquet, Arrow, Excel), "
        "a glob of such files, hf://owner/name, - for standard input, or a query to a database: {sql: …, query: …}.",
        "train": "The table to learn from, where the split is made already.",
        "validation": "The table to choose settings on. Left out: a share of `train`.",
        "test": "The table to be scored on, where the split is made already.",
        "split": "How `source` is cut into training, validation and test part.",
        "encoding": "The text encoding of csv, tsv and jsonl files, such as utf-8, cp1252 or cp932.",
    },
    "Query": {
        "sql": "An SQLAlchemy connection string such as postgresql://reader@localhost/shop or sqlite:///shop.db, or "
        "${NAME}, the environment variable that holds it.",
        "query": "A SELECT. Nothing is written to the database.",
    },
    "Split": {
        "test": "The test part: a share of the rows below 1, or a number of rows from 1 on.",
        "validation": "The validation part: a share of the rows below 1, or a number of rows from 1 on.",
        "seed": "Another seed gives another split; the same seed always gives the same one.",
        "group": "A column whose values never stand on both sides, such as a customer or a patient.",
        "column": "A column that says train, validation or test for each row.",
    },
    "Prompt": {
        "system": "The system message.",
        "user": "The user message: a Jinja2 template over the row's columns and `input`.",
        "prefill": "How the model's answer begins, such as 'Price is $'.",
        "examples": "Worked examples, shown to the model as earlier turns.",
    },
    "Example": {"input": "What goes in.", "output": "What must come out."},
    "Budget": {
        "usd": "Dollars spent on models. Left out: no limit.",
        "minutes": "Minutes of wall time. Left out: no limit.",
    },
    "Check": {
        "format": "What a whole answer must look like: a regular expression, json, or a JSON Schema. "
        "The column has the share of answers that do.",
        "slice": "A condition in SQL over the columns of the data, such as origin = 'JP'. "
        "The column has the metric over the test rows that meet it.",
        "style": "A model judges whose answers follow a rubric better. "
        "The column has the share of answers it prefers, and how often both orders of a pair agree.",
        "as": "What the column is called.",
    },
    "Style": {
        "rubric": "What a good answer is like, in words.",
        "judge": "The model that judges, such as openai:gpt-5.1.",
        "against": "The contestant whose answers the others are held against. Left out: the true answers.",
        "rows": "How many test rows are judged, the first ones.",
        "options": "Options of a hosted judge, as a prompt has them.",
    },
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a task file, with a description of each key."""
    schema = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(TaskSpec)))
    for struct, fields in DESCRIPTIONS.items():
        definition = schema["$defs"][struct]
        definition["description"] = " ".join(definition["description"].split())
        for name, description in fields.items():
            field = definition["properties"][name]
            # The words come first, so that an editor's help and a person's eye begin with them.
            definition["properties"][name] = {"description": description, **_without(field, "description")}
    task = schema["$defs"]["TaskSpec"]["properties"]
    task["data"] = {
        "description": task["data"]["description"],
        "anyOf": [{"$ref": "#/$defs/Data"}, {"type": "string", "minLength": 1}],
    }
    task["kind"]["enum"] = ["number", "label", "text"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kurabe task file",
        **schema,
    }


def write_schema() -> None:
    """Bring `schema.json` up to date."""
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}
