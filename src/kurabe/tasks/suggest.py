"""`kurabe new`: look at a table and write a first task file, with comments that say what was guessed and why."""

import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from kurabe.errors import DataError, TaskError, missing
from kurabe.tasks.languages import language_of, prompt_in
from kurabe.tasks.metrics import METRICS, default_metric
from kurabe.tasks.prose import is_prose
from kurabe.tasks.readings import reading
from kurabe.tasks.sources import STANDARD_INPUT, read_table, typed_frame
from kurabe.tasks.spec import Kind, Prompt
from kurabe.tasks.split import SYNONYMS
from kurabe.tasks.target import Guess, guess_kind, read_target
from kurabe.tasks.template import literal, reference

LIKELY_TARGETS = (
    "target", "label", "class", "category", "price", "y", "outcome", "answer", "output", "score", "rating", "value",
    "amount", "cost", "salary", "sentiment", "points",
)  # fmt: skip
_ID = re.compile(r"(^|[_\s.-])(id|ids|index|key|uuid|guid|sku|asin|rownames|row|no|nr|column_1)$", re.IGNORECASE)
_CAMEL_ID = re.compile(r"[a-z]I[Dd]$")
_GROUP = re.compile(
    r"(customer|client|user|patient|subject|author|seller|vendor|household|session|group|winery|school)", re.IGNORECASE
)
_DATE = r"^\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ]|$)"
_TIME_NAME = re.compile(r"(^|[_\s])(date|time|timestamp|year|month|created|created_at|datetime)$", re.IGNORECASE)
_LINE = 110  # characters of a line of the template
_CODE = r"^[\w.:/@#+-]*[\d@][\w.:/@#+-]*$"  # one word with a digit or an @
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class _Roles:
    """What each column but the target is good for. `left_out`: (column, why). `dates` are features and no text;
    `times` are columns that a split could go by."""

    texts: tuple[str, ...]
    facts: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    dates: tuple[str, ...]
    split: str | None
    groups: tuple[str, ...]
    times: tuple[str, ...]


def suggest(path: str | Path, target: str | None = None, folder: str | Path | None = None) -> str:
    """The text of a task file for a table.

    Parameters
    ----------
    path : str or Path
        The table; `-` is standard input.
    target : str or None
        The column that must come out.
    folder : str, Path or None
        Where the task file will stand; None: beside the table.

    Raises
    ------
    TaskError
        Where no target is named or there is no such column; the message lists the columns.
    DataError
        Where the table cannot be read.
    """
    path = Path(path)
    piped = str(path) == STANDARD_INPUT
    table = read_table(str(path) if piped else path.name, path.parent, encoding=None)
    frame = typed_frame(table)
    if target is None or target not in frame.columns:
        raise TaskError(_which(frame.columns, target))
    guess = guess_kind(frame[target])
    kind = guess.kind
    y, present, notes = read_target(
        typed_frame(table, keep=() if kind == "number" else (target,))[target], kind, table.locate
    )
    roles = _roles(frame.filter(pl.Series(present)), target)
    if not roles.texts and not roles.facts and roles.dates:
        roles = replace(roles, facts=roles.dates, dates=())  # there is nothing else to render
    if not roles.texts and not roles.facts:
        raise DataError(f"there is no column to find {target!r} out from: {_why(roles.left_out)}")
    source = path.name if piped or folder is None else _relative(path, Path(folder))
    title = "standard input" if piped else path.name
    labels = sorted(set(y[present])) if kind == "label" else []
    sections = (
        f"# A first task file for {_comment(title)}, {frame.height:,} rows. All of it was guessed from the table.",
        f"name: {_quote('task' if piped else path.stem or 'task')}",
        _data(source, table.encoding, roles, target, frame.height),
        _input(roles),
        _target(target, guess, len(labels), notes),
        _metric(kind),
        _prompt(target, kind, labels, prompt_in(_language(frame, roles, target, labels), kind, target, labels)),
        _contestants(kind),
        "# A run stops before it costs or takes more.\nbudget:\n  usd: 5\n  minutes: 30",
    )
    return "\n\n".join(sections) + "\n"


def _which(columns: Sequence[str], target: str | None) -> str:
    if target is not None:
        return missing("column", target, columns)
    likely = next((c for name in LIKELY_TARGETS for c in columns if c.lower() == name), columns[-1])
    listed = ", ".join(repr(column) for column in columns[:20]) + (", …" if len(columns) > 20 else "")
    return f"Which column must come out? Say --target COLUMN, such as --target {likely!r}. There are: {listed}"


def _roles(frame: pl.DataFrame, target: str) -> _Roles:
    texts, facts, left_out, dates, groups, times = [], [], [], list[str](), list[str](), list[str]()
    split: str | None = None
    for name in frame.columns:
        if name == target:
            continue
        series = frame[name]
        known = series.drop_nulls()
        if split is None and _says_part(known):
            split = name
        elif reason := _reason_to_leave(frame, name, target):
            left_out.append((name, reason))
        elif known.dtype in (pl.Date, pl.Datetime) or ((how := reading(known)) and "%" in how):
            dates.append(name)
        elif is_prose(known):
            texts.append(name)
        else:
            facts.append(name)
        if name in dates or known.dtype.is_temporal() or _TIME_NAME.search(name) or _all_match(known, _DATE):
            times.append(name)
        elif _GROUP.search(name) and 2 <= known.n_unique() <= len(known) / 2:
            groups.append(name)
    return _Roles(tuple(texts), tuple(facts), tuple(left_out), tuple(dates), split, tuple(groups), tuple(times))


def _reason_to_leave(frame: pl.DataFrame, name: str, target: str) -> str | None:
    """Why a column should not be an input, or None."""
    known = frame[name].drop_nulls()
    distinct = known.n_unique()
    if not len(known):
        return "it is empty"
    if distinct == 1 and len(known) == frame.height:
        return "it is the same in every row"
    unique = distinct == frame.height and frame.height > 1 and not is_prose(known)
    numbered = known.dtype.is_integer() and int(known.max()) - int(known.min()) < 2 * frame.height  # type: ignore[arg-type]
    named_id = bool(_ID.search(name) or _CAMEL_ID.search(name))
    if unique and (named_id or (numbered and frame.height >= 10)):
        return "it numbers the rows"
    if unique and frame.height >= 10 and _all_match(known, _CODE) and reading(known) is None:
        return "it is another code in every row"
    if 1 < distinct < frame.height / 2 and distinct == frame[target].n_unique() == frame.n_unique([name, target]):
        return f"it says {_comment(target)} in another form, so it would give the answer away"
    return None


def _says_part(known: pl.Series) -> bool:
    if known.dtype != pl.String or not 2 <= known.n_unique() <= 4:
        return False
    parts = {SYNONYMS.get(value.strip().lower()) for value in known.unique().to_list()}
    return None not in parts and {"train", "test"} <= parts


def _all_match(known: pl.Series, pattern: str) -> bool:
    return known.dtype == pl.String and len(known) > 0 and bool(known.str.contains(pattern).all())


def _data(source: str, encoding: str, roles: _Roles, target: str, rows: int) -> str:
    lines = ["data:", f"  source: {_quote(source)}"]
    if encoding != "utf-8":
        lines.append(f"  encoding: {encoding}  # guessed: the file is not UTF-8")
    lines.append("  split:")
    if roles.split is not None:
        lines += [f"    column: {_quote(roles.split)}  # says train or test for each row", "    seed: 0"]
        return "\n".join(lines)
    lines += [
        "    test: 0.2  # a share of the rows, or a number of rows such as 250",
        "    validation: 0.1  # for choosing settings; the test part is never used for that",
        "    seed: 0",
    ]
    for name in roles.groups[:1]:
        lines.append(f"    # group: {_quote(name)}  # rows of one {_comment(name)} would never stand on both sides")
    for name in roles.times[:1]:
        lines.append(
            f"    # {_comment(name)} is a time. To be tested on what came later, cut the table by it into two files:"
        )
        lines.append("    # data: {train: earlier.csv, test: later.csv}")
    return "\n".join(lines)


def _input(roles: _Roles) -> str:
    lines = ["# The text that contestants read, a Jinja2 template; the columns it names are also theirs to use."]
    lines += [f"# {_comment(name)} is left out: {why}." for name, why in roles.left_out]
    lines += [
        f"# {_comment(name)} is not in the text: it is a date, whose parts are features of the contestants for tables."
        for name in roles.dates
    ]
    template = "\n".join([*(f"{{{{ {reference(name)} }}}}" for name in roles.texts), *_fact_lines(roles.facts)])
    lines.append(f"input: {_block(template)}")
    if roles.dates:
        listed = ", ".join(_quote(name) for name in (*roles.texts, *roles.facts, *roles.dates))
        lines += ["# The columns that contestants may use, in the text or not.", f"columns: [{listed}]"]
    return "\n".join(lines)


def _fact_lines(names: Sequence[str]) -> list[str]:
    """`maker: {{ maker }}, year: {{ year }}`, over as many lines as it takes."""
    lines: list[str] = []
    for name in names:
        fact = f"{literal(name)}: {{{{ {reference(name)} }}}}"
        if lines and len(lines[-1]) + len(fact) <= _LINE:
            lines[-1] += f", {fact}"
        else:
            lines.append(fact)
    return lines


def _target(target: str, guess: Guess, labels: int, notes: Sequence[str]) -> str:
    other = {
        "number": "or label, which takes each value as a class of its own",
        "label": f"one of {labels} classes; number and text are the other kinds",
        "text": "free text; label is for a few values that repeat",
    }[guess.kind]
    lines = ["# What must come out.", *(f"# {note}" for note in notes)]
    lines += [f"target: {_quote(target)}", f"kind: {guess.kind}  # guessed, as {guess.why}; {other}"]
    return "\n".join(lines)


def _metric(kind: Kind) -> str:
    default = default_metric(kind).name
    others = ", ".join(metric.name for metric in METRICS.values() if metric.kind == kind and metric.name != default)
    return f"# Others: {others}.\nmetric: {default}"


def _language(frame: pl.DataFrame, roles: _Roles, target: str, labels: Sequence[str]) -> str:
    """The language of the table's texts, column names and labels."""
    names = [*roles.texts, *roles.facts]
    values = (str(value) for row in frame.select(names).iter_rows() for value in row if value is not None)
    return language_of(itertools.chain([target, *labels, *names], values))


def _prompt(target: str, kind: Kind, labels: Sequence[str], own: Prompt | None) -> str:
    if own is not None:
        return _prompt_lines(own.system or "", own.user, own.prefill)
    name = target.replace("_", " ")
    asked = f"What is the {literal(name)}?"
    listed = ("; " if any("," in label for label in labels) else ", ").join(labels)
    system = {
        "number": f"You estimate the {name}. You answer with one number and nothing else.",
        "label": f"You choose the {name}. You answer with one of these and nothing else: {listed}",
        "text": f"You find out the {name}. You answer with it and nothing else.",
    }[kind]
    if kind == "label" and len(listed) > 1500:
        system = f"You choose the {name}. You answer with it and nothing else."
    return _prompt_lines(system, f"{asked}\n\n{{{{ input }}}}", f"The {name} is")


def _prompt_lines(system: str, user: str, prefill: str) -> str:
    return "\n".join(
        [
            "# What a language model is told. `prefill` is how its answer begins.",
            "prompt:",
            f"  system: {_quote(system)}",
            f"  user: {_quote(user)}",
            f"  prefill: {_quote(prefill)}",
        ]
    )


def _contestants(kind: Kind) -> str:
    plain = {
        "number": ("constant", "linear_features", "tfidf_ridge", "random_forest", "gradient_boosting"),
        "label": ("constant", "linear_features", "tfidf_logistic", "random_forest", "gradient_boosting"),
        "text": ("constant", "nearest_neighbours"),
    }[kind]
    lines = [
        "# Without this list all that can run take part. To choose, take the signs off; each may have settings.",
        "# contestants:",
        *(f"#   - {name}" for name in plain),
        '#   - prompt: {model: "gguf:smollm2-135m", examples: 3}',
        "#   - human  # asks you in the terminal",
        '#   - "my_module:my_estimator"  # a scikit-learn estimator of your own',
    ]
    return "\n".join(lines)


def _relative(path: Path, folder: Path) -> str:
    """The path as the task file names it: from the folder where it stands."""
    path, folder = path.resolve(), folder.resolve()
    return Path(os.path.relpath(path, folder)).as_posix()


def _why(left_out: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{name!r}: {why}" for name, why in left_out) or "the table has no other column"


def _comment(text: str) -> str:
    """A name inside a comment: on one line, of printable characters."""
    return text if text.isprintable() and text == text.strip() else repr(text)


def _quote(text: str) -> str:
    """A YAML scalar: the plain text where that is safe to read as itself, else in double quotes."""
    if re.fullmatch(r"[A-Za-z][\w./-]*", text) and text.lower() not in {
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "null",
        "y",
        "n",
    }:
        return text
    return _UNPRINTABLE.sub(lambda m: f"\\U{ord(m[0]):08x}", json.dumps(text, ensure_ascii=False))


def _block(template: str) -> str:
    """A template over several lines as a YAML block, over one line in quotes."""
    lines = template.split("\n")
    if len(lines) == 1 or _UNPRINTABLE.search(template) or "\t" in template or lines[0].startswith(" "):
        return _quote(template)
    return "|-\n" + "\n".join(f"  {line}" for line in lines)
