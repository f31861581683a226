"""A template of a stranger ends within limits of time and memory, whatever it does."""

import random
import resource
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import TaskError
from kurabe.messages import Message
from kurabe.models import bounded
from kurabe.models.engines import chat_template
from kurabe.models.engines.chat_template import ChatTemplate
from kurabe.tasks import template as templates
from kurabe.tasks.sandbox import SANDBOX, is_bounded
from kurabe.tasks.template import check_syntax, render_inputs

FRAME = pl.DataFrame({"title": ["Lamp", "Chair"], "price": [1.5, None]})
LOOPS = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
DOUBLING = "{%% set ns = namespace(x='x') %%}{%% for i in range(%d) %%}{%% set ns.x = ns.x ~ ns.x %%}{%% endfor %%}"
FORK = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
ENDLESS = [
    "{% for a in 'x' * 9999 %}{% for b in 'x' * 9999 %}{% for c in 'x' * 9999 %}" + "{% endfor %}" * 3,
    LOOPS + "{% endfor %}" * 3,
    DOUBLING % 40,
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    FORK,
    "{{ ('x' * 30000000).replace(old='x', new='yyyyyyyy' * 30) }}",
    "{{ ('x' * 1000000) | replace(new='y' * 1000000, old='x') }}",
    "{{ [[[[1] * 1000] * 1000] * 1000] | tojson(indent=1000000) }}",
    "{{ {'a': {'b': {'c': 1}}} | tojson(indent=999999999) }}",
    "{{ range(100000) | join('x' * 1000000) }}",
    "{{ 9 ** 999 ** 999 }}",
    "{{ ((9 ** 999) ** 999) ** 999 }}",
    "{{ 'x' * 10 ** 12 }}",
    "{{ (('a' * 30000000) ~ ('b' * 30000000)) * 1 }}",
    "{{ ['x' * 30000000] | batch(2, 'x' * 30000000) | list | tojson | length * 10 ** 300 }}",
    "{{ title | center(999999999999) }}",
    "{{ '%999999999d' % 1 }}{{ '{:>999999999}'.format(1) }}",
    "{{ lipsum(n=1000000) }}",
    "{{ cycler(*range(1000000)) }}{{ dict(a=1) }}",
    "{{ ('a' * 5000 + '!') | urlize }}{{ 'a ' * 3000000 | wordwrap(1) }}",
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 1.5)
    monkeypatch.setattr(chat_template, "SECONDS", 1.5)


def check_ends(template: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with suppress(TaskError):
        check_syntax(template)
        assert sum(map(len, render_inputs(template, FRAME))) < 100e6
    assert time.monotonic() - began < 30  # on a machine with other things to do
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_end_ends(template: str) -> None:
    check_ends(template)


@pytest.mark.parametrize(
    "template", ["{{ " + "(" * 20_000, "{% if 1 %}" * 5000, "{{ x" + "|e" * 50_000 + " }}", "x" * 200_000]
)
def test_a_template_that_is_deep_or_large_is_one_message(template: str) -> None:
    with pytest.raises(TaskError):
        check_syntax(template)


PIECES = [
    "{% for a in range(9999) %}", "{% for c in title %}", "{% endfor %}", "{% set x = title * 999 %}", "{{ x ~ x }}",
    "{{ title | replace('a', 'b' * 99999) }}", "{% macro m(a) %}", "{% endmacro %}", "{{ m(m(title)) }}", "{{ title }}",
    "{% if price %}", "{% endif %}", "{{ ('a' * 99999).split('') }}", "{{ row | tojson(indent=9999) }}",
    "{{ title.join(range(99999) | map('string')) }}", "{% filter upper %}", "{% endfilter %}", "{{ row | pprint }}",
]  # fmt: skip


@settings(max_examples=25)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8))
def test_any_template_ends(pieces: list[str]) -> None:
    check_ends("".join(pieces))


def test_a_template_that_takes_too_long_says_so_and_the_next_one_is_rendered() -> None:
    with pytest.raises(TaskError, match=r"input: the template takes more than 2 seconds or 896 MiB of memory"):
        render_inputs(
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", FRAME
        )
    assert render_inputs("{% for a in title %}{{ a }}-{% endfor %}", FRAME) == ["L-a-m-p-", "C-h-a-i-r-"]


@pytest.mark.parametrize(
    ("template", "plain"),
    [
        ("{{ title }} {{ price }}", True),
        ("{{ title | trim | upper }}{% if price %} at {{ price }}{% endif %}", True),
        ("{{ row['title'][:50] }}", True),
        ("{{ title * 2 }}", False),
        ("{% for c in title %}{% endfor %}", False),
        ("{{ price | round(2) }}", True),
        ("{{ title ~ title }}", False),
        ("{{ title.upper() }}", False),
        ("{% set a = title ~ title %}", False),
        ("{{ title | replace('a', title) }}", False),
    ],
)
def test_plain_templates_need_no_process(template: str, plain: bool) -> None:
    assert is_bounded(SANDBOX.parse(template)) == plain


@pytest.mark.parametrize(
    "places", ["-60000000", "60000000", "-10 ** 9", "precision=-60000000", "1e9", "-60000000, 'ceil'"]
)
def test_a_number_is_rounded_to_a_sensible_number_of_places(places: str) -> None:
    with pytest.raises(TaskError, match=r"rounding to .* places; it may be up to 400"):
        render_inputs(f"{{{{ price | int | round({places}) }}}}", FRAME[:1])
    assert render_inputs("{{ price | round(0) }} {{ price | int | round(-1) }}", FRAME[:1]) == ["2 0"]


def test_long_cells_put_together_take_no_memory_here() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TaskError):
        render_inputs("{{ " + " ~ ".join(["t"] * 400) + " }}", pl.DataFrame({"t": ["a" * 10**6]}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_both_ways_render_alike() -> None:
    frame = pl.DataFrame({"a": ["x", None], "b": [1.0, float("nan")], "c": [True, None], "d": [3, 4]})
    plain = "{{ a }}|{{ b }}|{{ c }}|{{ d }}"
    assert render_inputs(plain + "{% for x in '' %}{% endfor %}", frame) == render_inputs(plain, frame)


CHAT = [
    LOOPS + "{% endfor %}" * 3,
    "{{ 'x' * 10 ** 10 }}",
    "{% for m in messages %}{{ m | tojson(indent=999999999) }}{% endfor %}",
    DOUBLING % 60 + "{{ ns.x }}",
]


@pytest.mark.parametrize("source", CHAT)
def test_a_models_own_template_ends_too(source: str) -> None:
    from kurabe.errors import InputError, ModelError

    with pytest.raises((InputError, ModelError), match="chat template of 'm'"):
        ChatTemplate(source, {}, "m").render([Message("user", "x")])


def test_a_models_template_renders_as_before() -> None:
    source = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    assert ChatTemplate(source, {}, "m").render([Message("user", "é 🙂")]) == "<user>é 🙂<a>"


def test_work_that_takes_too_much_memory_fails_and_the_next_does_not() -> None:
    for _ in range(2):
        with pytest.raises(bounded.LimitError):
            bounded.call("builtins:bytes", 4 << 30, seconds=20)
        assert bounded.call("builtins:len", "abc", seconds=20) == 3


def test_what_a_call_leaves_does_not_keep_the_next_from_loading_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keeper.py").write_text("kept = []\ndef keep(size):\n    kept.append(bytearray(size))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    bounded.stop()
    bounded.call("keeper:keep", 800 << 20, seconds=20)
    assert bounded.call("kurabe.tasks.checks:labels_of", (), seconds=20) == []
    bounded.stop()


def test_what_work_raises_is_told() -> None:
    with pytest.raises(bounded.FailedError, match="invalid literal") as raised:
        bounded.call("builtins:int", f"x{random.random()}", seconds=20)
    assert raised.value.kind == "ValueError"
