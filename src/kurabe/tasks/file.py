"""Reading a task file: YAML in, a checked `TaskSpec` out.

python -m kurabe.tasks.file        # writes schema.json, the JSON Schema that editors use, beside this module
"""

import codecs
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kurabe.errors import TaskError, missing, nearest
from kurabe.tasks.checks import read_format
from kurabe.tasks.schema import json_schema, write_schema
from kurabe.tasks.spec import Budget, Check, ContestantSpec, Data, Example, Kind, Prompt, Query, Split, Style, TaskSpec
from kurabe.tasks.template import check_syntax

__all__ = ["contestant_entry", "contestant_specs", "json_schema", "load_spec", "parse_spec"]

KINDS: tuple[Kind, ...] = ("number", "label", "text")
_SHORT = 30  # characters of a setting that may stand in a name
# A task file is small. The limits end files that refer to themselves or unfold into millions of values by aliases.
MAX_VALUES = 100_000
MAX_CHARACTERS = 5_000_000
MAX_DEPTH = 50
PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")
)
NO_ENCODINGS = frozenset(
    {"undefined", "utf_7", "unicode_escape", "raw_unicode_escape", "idna", "punycode", "mbcs", "oem"}
)
"""What Python calls encodings and no file of a table is written in."""
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "$": TaskSpec, "$.data": Data, "$.data.source": Query, "$.data.train": Query, "$.data.validation": Query,
    "$.data.test": Query, "$.data.split": Split, "$.prompt": Prompt, "$.prompt.examples[]": Example,
    "$.budget": Budget, "$.checks[]": Check, "$.checks[].style": Style,
}  # fmt: skip
WORDS = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "nothing",
    "array": "a list", "object": "a mapping",
}  # fmt: skip


class _Loader(yaml.CSafeLoader):
    """YAML's safe loader, closer to YAML 1.2: a date stays a text and `1e-3` is a number."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # the name and form are PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_spec(path: str | Path) -> TaskSpec:
    """Read and check a task file. Raises TaskError, which names the file, the place in it and what is expected."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.y*ml")))
        raise TaskError(
            f"There is no task file {path}{near or '.'} `kurabe new DATA --target COLUMN` writes one"
        ) from None
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 (byte {error.start}): save the task file as UTF-8") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"The task file {str(path)!r} cannot be read: {error}") from None
    return parse_spec(text, str(path))


def parse_spec(source: str | Mapping[str, Any], where: str = "the task") -> TaskSpec:
    """Make a checked TaskSpec of YAML text or a mapping of the same form. Raises TaskError that begins `where`."""
    node: yaml.Node | None = None
    raw: Any = source
    if isinstance(source, str):
        node, raw = _read_yaml(source, where)
    if isinstance(raw, dict) and isinstance(raw.get("data"), str):
        raw = {**raw, "data": {"source": raw["data"]}}
    try:
        spec = msgspec.convert(raw, TaskSpec)
    except msgspec.ValidationError as error:
        message, path = _explain(str(error))
        raise TaskError(_at(where, node, path, message)) from None
    for path, message in _contradictions(spec):
        raise TaskError(_at(where, node, path, message))
    return spec


def contestant_specs(spec: TaskSpec) -> tuple[ContestantSpec, ...]:
    """The entries of `contestants` taken apart, each with a label that no other has; () where the file names none.

    >>> from kurabe.tasks.spec import Data
    >>> spec = TaskSpec("t", Data("t.csv"), "y", "number", contestants=("constant", {"prompt": {"examples": 3}}))
    >>> [entry.label for entry in contestant_specs(spec)]
    ['constant', 'prompt, 3 examples']
    """
    found: list[ContestantSpec] = []
    taken: set[str] = set()
    before: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for index, entry in enumerate(spec.contestants or ()):
        name, settings, wanted = _entry(entry, f"contestants[{index}]")
        alike = before[wanted]
        if alike and name != "human":  # what a person answered is kept by the name
            wanted = ", ".join([wanted, *_apart(settings, alike)])
        alike.append(settings)
        label, copies = wanted, 1
        while label in taken:
            copies += 1
            label = f"{wanted} {copies}"
        taken.add(label)
        found.append(ContestantSpec(name, settings, label))
    return tuple(found)


def contestant_entry(entry: str | dict[str, Any], at: str) -> ContestantSpec:
    """One contestant in the form of an entry of `contestants`. Raises TaskError that begins with `at`."""
    return ContestantSpec(*_entry(entry, at))


def _entry(entry: str | dict[str, Any], at: str) -> tuple[str, dict[str, Any], str]:
    """(name, settings, wanted label) of one entry of `contestants`."""
    if isinstance(entry, str):
        entry = {entry: None}
    names = [key for key in entry if key != "as"]
    if len(names) != 1 or not names[0].strip():
        raise TaskError(
            f"{at}: one contestant an entry, such as `tfidf_ridge`, `{{prompt: {{examples: 3}}}}` or"
            f" `{{constant: {{}}, as: the median}}`; this one names {len(names)}: {', '.join(names) or 'nothing'}"
        )
    name = names[0]
    settings = {} if entry[name] is None else entry[name]
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise TaskError(f"{at}.{name}: expected settings as a mapping such as {{examples: 3}}, got {settings!r}")
    label = entry.get("as", _label(name, settings))
    if not isinstance(label, str) or not label.strip():
        raise TaskError(f"{at}.as: expected a name for the board, got {label!r}")
    return name, settings, label


def _apart(settings: dict[str, Any], alike: Sequence[dict[str, Any]]) -> list[str]:
    """`rank 8`: the short settings that tell a contestant from those before it that are called the same."""
    return [
        f"{name} {str(value).lower() if isinstance(value, bool) else value}"
        for name, value in settings.items()
        if isinstance(value, str | int | float) and len(str(value)) <= _SHORT and str(value).isprintable()
        if name != "model" and any(other.get(name) != value for other in alike)
    ]


def _label(name: str, settings: dict[str, Any]) -> str:
    """What a contestant is called on the board where the task file does not say."""
    if name == "sweep":
        swept = settings.get("contestant")
        if isinstance(swept, dict) and len(swept) == 1:
            ((swept, inner),) = swept.items()
            swept = _label(swept, inner) if isinstance(inner, dict) else swept
        return f"sweep {swept}" if isinstance(swept, str) else name
    if name != "prompt":
        return name
    model = settings.get("model")
    words = [f"prompt {re.sub(r'^[a-z_]+:', '', model).rsplit('/', 1)[-1]}" if isinstance(model, str) else "prompt"]
    examples = settings.get("examples")
    count = len(examples) if isinstance(examples, list | tuple) else examples
    if isinstance(count, int) and count > 0:
        noun = "nearest" if settings.get("choose") == "nearest" else "example" if count == 1 else "examples"
        words.append(f"{count} {noun}")
    return ", ".join(words)


def _read_yaml(text: str, where: str) -> tuple[yaml.Node, Any]:
    try:
        _check_events(text, where)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise TaskError(f"{where} is empty. `kurabe new DATA --target COLUMN` writes a first task file")
            _check_nodes(node, where)
            return node, loader.construct_document(node)
        finally:
            loader.dispose()
    except TaskError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise TaskError(
            f"{where}{line}: not valid YAML: {error.problem or error.context}{_yaml_hint(text, mark)}"
        ) from None
    except Exception as error:  # explicit tags such as `!!bool x` fail in a dozen ways, none of them a YAMLError
        raise TaskError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def _yaml_hint(text: str, mark: yaml.Mark | None) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "{{" in line or "{%" in line:
        return '. A template goes in quotes: input: "{{ title }}"'
    if "\t" in line:
        return ". YAML is indented with spaces, not tabs"
    return f" in {line.strip()!r}" if line.strip() else ""


def _check_events(text: str, where: str) -> None:
    """Refuse a file that is too large or too deep before anything is made of it: PyYAML composes by recursion in C."""
    if len(text) > MAX_CHARACTERS:
        raise TaskError(f"{where} has {len(text):,} characters; a task file may have up to {MAX_CHARACTERS:,}")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise TaskError(f"{where}{line}: nested too deep for a task file: more than {MAX_DEPTH} levels")


def _check_nodes(root: yaml.Node, where: str) -> None:
    """Refuse duplicate keys, tags beyond JSON's types, numbers that are not finite, and what unfolds without end."""
    stack, seen = [(root, 0)], 0
    while stack:
        node, depth = stack.pop()
        seen += 1
        line = f"{where}, line {node.start_mark.line + 1}"
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise TaskError(f"{line}: nested too deep or too large for a task file (an alias that holds itself?)")
        if node.tag not in PLAIN_TAGS:
            raise TaskError(f"{line}: the tag {node.tag!r} has no place in a task file: write a plain value")
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in keys:
                        raise TaskError(f"{where}, line {key.start_mark.line + 1}: {key.value!r} stands here twice")
                    keys.add(key.value)
                stack += [(value, depth + 1), (key, depth + 1)]
        elif isinstance(node, yaml.SequenceNode):
            stack += [(item, depth + 1) for item in node.value]
        elif node.tag.endswith(":float") and re.fullmatch(r"[-+]?\.(inf|nan)", node.value.lower()):
            raise TaskError(f"{line}: {node.value} is not a finite number")


def _explain(error: str) -> tuple[str, str]:
    """msgspec's message in plain words, and the path (`$.data.trian`) it speaks of."""
    message, _, path = error.partition(" - at ")
    path = re.sub(r"^`key` in ", "", path).strip("`") or "$"
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        section = SECTIONS.get(re.sub(r"\[\d+\]", "[]", path))
        options = section.__struct_encode_fields__ if section else ()
        return missing("key", found[1], options), f"{path}.{found[1]}"
    if found := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"{found[1]!r} is missing", path
    if found := re.fullmatch(r"Invalid enum value '(.*)'", message, re.DOTALL):
        return f"expected one of {', '.join(KINDS)}, got {found[1]!r}{nearest(found[1], KINDS)}", path
    quote = re.fullmatch(r"Expected `str( \| null)?`, got `(bool|int|float)`", message)
    message = re.sub(
        r"`([a-z]+(?: \| [a-z]+)*)`", lambda m: " or ".join(WORDS.get(w, w) for w in m[1].split(" | ")), message
    )
    hint = ". Put quotes around it to make it a text" if quote else ""
    return message[:1].lower() + message[1:] + hint, path


def _at(where: str, node: yaml.Node | None, path: str, message: str) -> str:
    """`prices.yaml, line 4: data.trian: …`; the line is that of the last part of the path that the file holds."""
    line = None
    for part in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path):
        if node is None:
            break
        node = _child(node, *part)
        line = node.start_mark.line + 1 if node else line
    shown = path.removeprefix("$").removeprefix(".")
    return f"{where}{f', line {line}' if line else ''}: {f'{shown}: ' if shown else ''}{message}"


def _child(node: yaml.Node, key: str, index: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode) and key:
        return next((value for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode) and index:
        return node.value[int(index)] if int(index) < len(node.value) else None
    return None


def _contradictions(spec: TaskSpec) -> list[tuple[str, str]]:
    """(path, message) of everything that is well-formed and yet makes no sense."""
    found: list[tuple[str, str]] = []
    found += _data_contradictions(spec.data)
    if spec.columns is not None:
        twice = sorted({name for name in spec.columns if spec.columns.count(name) > 1})
        if not spec.columns:
            found.append(("$.columns", "name at least one column, or leave `columns` out to use them all"))
        if twice:
            found.append(("$.columns", f"{twice[0]!r} stands here twice"))
        if spec.target in spec.columns:
            found.append(("$.columns", f"the target {spec.target!r} cannot be an input: it is what must be found out"))
    if spec.contestants is not None and not spec.contestants:
        found.append(("$.contestants", "name at least one, or leave `contestants` out to run all that can"))
    for path, template in (("input", spec.input), ("prompt.user", spec.prompt.user if spec.prompt else None)):
        try:
            check_syntax(template or "", path)
        except TaskError as error:
            found.append((f"$.{path}", str(error).removeprefix(f"{path}: ")))
    try:
        contestant_specs(spec)
    except TaskError as error:
        path, _, message = str(error).partition(": ")
        found.append((f"$.{path}", message))
        return found
    return found + _check_contradictions(spec)


def _check_contradictions(spec: TaskSpec) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for index, check in enumerate(spec.checks):
        path, style = f"$.checks[{index}]", check.style
        if sum(asked is not None for asked in (check.format, check.slice, style)) != 1:
            found.append((path, "one of `format`, `slice` and `style` each, such as {format: json}"))
        if check.format is not None:
            try:
                read_format(check.format)
            except TaskError as error:
                found.append((f"{path}.format", str(error)))
        if style is None:
            continue
        labels = [one.label for one in contestant_specs(spec)]
        if style.against is None and spec.kind != "text":
            found.append(
                (f"{path}.style", f"the true answers are no texts but of kind {spec.kind}: say `against`, a contestant")
            )
        elif style.against is not None and labels and style.against not in labels:
            found.append((f"{path}.style.against", missing("contestant", style.against, labels)))
    return found


def _data_contradictions(data: Data) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if data.source is not None and (data.train or data.test or data.validation):
        found.append(("$.data", "either one `source`, or `train` and `test`, not both"))
    elif data.source is None and not (data.train and data.test):
        found.append(("$.data", "name the rows: `source: items.csv`, or `train: …` and `test: …`"))
    if [data.train, data.validation, data.test].count("-") > 1:
        found.append(("$.data", "standard input, `-`, can be read once only; name a file for the other part"))
    try:
        found_codec = codecs.lookup(data.encoding)
        if not found_codec._is_text_encoding or found_codec.name.replace("-", "_") in NO_ENCODINGS:
            raise LookupError
    except (LookupError, ValueError):
        known = ["utf-8", "utf-16", "cp1252", "latin-1", "cp932", "shift_jis", "gb18030", "euc-kr", "cp1251"]
        found.append(("$.data.encoding", missing("encoding", data.encoding, known)))
    return found + _split_contradictions(data)


def _split_contradictions(data: Data) -> list[tuple[str, str]]:
    split, path, found = data.split, "$.data.split", list[tuple[str, str]]()
    if split is None:
        return found
    if data.test and (split.column is not None or split.test != Split().test):
        found.append(
            (path, "with a `test` file the split is made already: only `validation`, `group` and `seed` go here")
        )
    if split.column is not None and split.group is not None:
        found.append((path, "either `column` or `group`, not both"))
    if split.test == 0:
        found.append((f"{path}.test", "the test part cannot be empty: 0.2 is a fifth of the rows, 250 is 250 rows"))
    for name, size in (("test", split.test), ("validation", split.validation)):
        if not math.isfinite(size) or (size > 1 and size != int(size)):
            found.append((f"{path}.{name}", f"{size} is neither a share below 1 nor a whole number of rows"))
    if split.test < 1 and split.validation < 1 and split.test + split.validation >= 1:
        found.append((path, f"test {split.test} and validation {split.validation} leave no rows to train on"))
    return found


if __name__ == "__main__":
    write_schema()
