"""The task file as values. One struct a section; `kurabe.tasks.file` reads YAML into them and checks it, and the JSON
Schema for editors is generated from them."""

from typing import Annotated, Any, Literal

import msgspec

Kind = Literal["number", "label", "text"]
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
Size = Annotated[float, msgspec.Meta(ge=0, description="A share of the rows below 1, or a number of rows from 1 on.")]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Sample = Annotated[int, msgspec.Meta(ge=1)] | Literal["all"]
"""How many test rows are asked, of a part that stands in random order: the first N, or all."""


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one source is cut into training, validation and test part.

    By share (`test: 0.2`) or number of rows (`test: 250`), with a seed; `group` names a column whose values never stand
    on both sides; `column` names a column that says `train`, `validation` or `test` for each row.
    """

    test: Size = 0.2
    validation: Size = 0.1
    seed: Seed = 0
    group: str | None = None
    column: str | None = None


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows of a query to a database.

    `sql` is an SQLAlchemy connection string, or `${NAME}`, the environment variable that holds it. What it says beside
    the kind and place of the database is hidden in every output.
    """

    sql: NonEmpty
    query: NonEmpty

    def __repr__(self) -> str:
        return f"Query(sql='…', query={self.query!r})"


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the rows are: one `source` to be split, or `train` and `test` (and `validation`) apart.

    Each is a path relative to the task file (csv, tsv, jsonl, parquet, Arrow, Excel; `book.xlsx#Sheet` names a sheet),
    a glob of such paths, `hf://owner/name`, `-` for standard input, or a query to a database.
    """

    source: NonEmpty | Query | None = None
    train: NonEmpty | Query | None = None
    validation: NonEmpty | Query | None = None
    test: NonEmpty | Query | None = None
    split: Split | None = None
    encoding: str = "utf-8"


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worked example for a prompt: what goes in and what must come out."""

    input: str
    output: str | float | int


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a language model is told. `user` is a sandboxed Jinja2 template over the row's input columns and `input`;
    `prefill` begins the model's answer; `examples` are fixed examples, shown as earlier turns."""

    system: str | None = None
    user: str = "{{ input }}"
    prefill: str = ""
    examples: tuple[Example, ...] = ()


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a run stops: dollars spent on models, minutes of wall time. None: no limit."""

    usd: Annotated[float, msgspec.Meta(ge=0)] | None = None
    minutes: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Style(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How answers are judged: the model `judge` is shown each answer beside the true one, or beside that of the
    contestant `against`, in both orders, and says which follows the `rubric` better. `rows`: of the first so many test
    rows. `options`: those of a hosted judge, as in `prompt`."""

    rubric: NonEmpty
    judge: NonEmpty
    against: NonEmpty | None = None
    rows: Annotated[int, msgspec.Meta(ge=1)] = 50
    options: dict[str, Any] | None = None


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One further column of the board, called `as`: one of `format`, `slice` and `style`.

    `format`: a regular expression for the whole answer, `json`, or a JSON Schema. `slice`: a condition in SQL over the
    columns of the data, such as `origin = 'JP'`.
    """

    format: NonEmpty | dict[str, Any] | None = None
    slice: NonEmpty | None = None
    style: Style | None = None
    label: NonEmpty | None = msgspec.field(default=None, name="as")


class TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole task file. `contestants` is None if the file lists none: then every one that can run takes part.

    A contestant is a name (`tfidf_ridge`), a name with settings (`{prompt: {model: "gguf:smollm2-135m"}}`), or
    `module:object` for an estimator of one's own, with `as: NAME` beside it to call it something else on the board.
    """

    name: NonEmpty
    data: Data
    target: NonEmpty
    kind: Kind
    input: NonEmpty | None = None
    columns: tuple[str, ...] | None = None
    metric: NonEmpty | None = None
    prompt: Prompt | None = None
    contestants: tuple[str | dict[str, Any], ...] | None = None
    budget: Budget = Budget()
    checks: tuple[Check, ...] = ()
    cluster: NonEmpty | None = None
    rows: Sample | None = None
    race: bool = False


class ContestantSpec(msgspec.Struct, frozen=True):
    """One entry of `contestants`, taken apart. `label` is its name on the board."""

    name: str
    settings: dict[str, Any]
    label: str
