import jinja2
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kurabe.errors import TaskError
from kurabe.tasks.template import check_syntax, default_template, reference, render_inputs, template_columns

FRAME = pl.DataFrame(
    {
        "title": ["Lamp", None],
        "speed": [25, None],
        "weight": [2.0, 0.5],
        "new": [True, False],
        "screen size": ["14", "15"],
    }
)


def render(template: str, frame: pl.DataFrame = FRAME) -> list[str]:
    return render_inputs(template, frame)


def test_cells_are_rendered_as_the_file_has_them() -> None:
    assert render("{{ title }}|{{ speed }}|{{ weight }}|{{ new }}") == ["Lamp|25|2|true", "||0.5|false"]


def test_a_column_whose_name_is_no_identifier_is_reached_through_row() -> None:
    assert render("{{ row['screen size'] }} {{ row.speed }}") == ["14 25", "15 "]


def test_a_template_without_columns_is_rendered_once_a_row() -> None:
    assert render("the same") == ["the same", "the same"]


def test_nul_emoji_html_and_template_signs_in_the_data_pass_unchanged() -> None:
    cells = ["a\x00b", "🙂‍↔️", "<b>&amp;", "{{ 7 * 7 }}", "x\n", "\ud7ff\U0010ffff"]
    assert render("{{ t }}", pl.DataFrame({"t": cells})) == cells


def test_a_megabyte_of_text_is_rendered() -> None:
    text = "x" * 1_000_000
    assert render("{{ t }}!", pl.DataFrame({"t": [text]})) == [text + "!"]


def test_the_columns_a_template_reads_come_in_the_order_of_the_table() -> None:
    assert template_columns("{{ speed }} {{ title }}", FRAME.columns) == ("title", "speed")
    assert template_columns("{{ row['screen size'] }} {{ speed }}", FRAME.columns) == ("speed", "screen size")
    assert template_columns("{% for i in range(3) %}{{ i }}{{ loop.index }}{{ title }}{% endfor %}", FRAME.columns) == (
        "title",
    )


def test_going_through_the_whole_row_reads_every_column_but_the_target() -> None:
    template = "{% for name, value in row.items() %}{{ name }}={{ value }};{% endfor %}"
    columns = template_columns(template, FRAME.columns, target="speed")
    assert columns == ("title", "weight", "new", "screen size")
    assert render_inputs(template, FRAME[list(columns)])[0] == "title=Lamp;weight=2;new=true;screen size=14;"


@pytest.mark.parametrize(
    "template", ["{{ speed }}", "{{ row['speed'] }}", "{{ row.speed }}", "{% if speed %}x{% endif %}"]
)
def test_a_template_that_reads_the_target_is_refused(template: str) -> None:
    with pytest.raises(TaskError, match="reads the target 'speed'"):
        template_columns(template, FRAME.columns, target="speed")


def test_an_unknown_column_gets_the_nearest_name_and_never_the_target() -> None:
    with pytest.raises(TaskError, match="no column 'titel'; did you mean 'title'") as caught:
        template_columns("{{ titel }}", FRAME.columns, target="speed")
    assert "speed" not in str(caught.value)


def test_a_column_may_bear_the_name_of_a_global() -> None:
    frame = pl.DataFrame({"range": [1], "class": ["A"]})
    assert render("{{ class }} {{ range }}", frame) == ["A 1"]


def test_a_syntax_error_shows_the_line_and_marks_the_place() -> None:
    with pytest.raises(TaskError) as caught:
        check_syntax("fine\n{{ screen size }}")
    assert str(caught.value) == (
        "input: template, line 2: expected token 'end of print statement', got 'size'\n"
        "    {{ screen size }}\n"
        "              ^"
    )


@pytest.mark.parametrize(
    "template", ["{{ x", "{% if x %}", "{{ x | nofilter }}", "{% nope %}", "{{ 'a }}", "{% endif %}"]
)
def test_every_syntax_error_is_a_task_error_that_names_the_line(template: str) -> None:
    with pytest.raises(TaskError, match="input: template, line 1: "):
        check_syntax(template)


def test_an_error_at_a_row_names_the_row() -> None:
    frame = pl.DataFrame({"n": [1, 0]})
    with pytest.raises(TaskError, match=r"fails at items\.csv, line 3: .*division"):
        render_inputs("{{ 1 / n }}", frame, locate=lambda row: f"items.csv, line {row + 2}")
    with pytest.raises(TaskError, match=r"row index 0: .*no attribute 'nope'"):
        render("{{ n.nope }}", frame)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ 10 ** 5000 }}",
        "{% for i in range(99999) %}{{ t * 1000 }}{% endfor %}",
        "{{ ('%300000000d' % 1) | length }}",
        "{{ ('%.300000000f' % 1) | length }}",
        "{{ ('%*d' % (300000000, 1)) | length }}",
        "{{ ('%(a)300000000d' % {'a': 1}) | length }}",
        "{{ ('%300000000d' | format(1)) | length }}",
        "{{ (['%300000000d'] | map('format', 1) | first) | length }}",
        "{{ '{:300000000}'.format(1) | length }}",
        "{{ '{:{}}'.format(1, 300000000) | length }}",
        "{{ '{a:300000000}'.format_map({'a': 1}) | length }}",
        "{{ 'a' | center(90000000) | length }}",
        "{{ 'a' | center(width=90000000) | length }}",
        "{{ t.center(90000000) | length }}",
        "{{ t.ljust(90000000) | length }}",
        "{{ t['rjust'](90000000) | length }}",
        "{{ t.zfill(90000000) | length }}",
        "{{ '\t\t'.expandtabs(30000000) | length }}",
        "{{ ('a\n' * 100000) | indent(1000) | length }}",
        "{{ ('a' * 100000).replace('a', 'b' * 1000) | length }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 1000) | length }}",
        "{{ ([1] | batch(90000000, 1) | first) | length }}",
        "{{ (('a' * 20000000) + ('a' * 20000000)) | length }}",
        "{% for i in range(2000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ row.clear() }}",
        "{% include 'x' %}",
        "{{ t.__init__.__globals__ }}",
    ],
)
def test_the_sandbox_refuses_abuse(template: str) -> None:
    with pytest.raises(TaskError):
        render(template, pl.DataFrame({"t": ["abc"]}))


def test_the_sandbox_leaves_common_templates_alone() -> None:
    template = (
        "{{ '%5.2f|%-4s|100%%' % (weight, title) }}|{{ '%05d' | format(speed) }}|{{ '{:>6,.1f}'.format(weight) }}"
        "|{{ title.center(8) }}|{{ title | indent(2, first=True) }}|{{ title | replace('L', 'l') }}"
        "|{{ title + '12345' }}|{{ '%s costs 12345' % title }}|{{ speed % 7 }}"
        "|{{ [1, 2, 3] | batch(2, 0) | list }}|{{ range(3) | list }}"
    )
    assert render(template, FRAME.head(1)) == [
        " 2.00|Lamp|100%|00025|   2.0|  Lamp  |  Lamp|lamp|Lamp12345|Lamp costs 12345|4|[[1, 2], [3, 0]]|[0, 1, 2]"
    ]


def test_the_steps_of_range_are_counted_for_each_row_anew() -> None:
    frame = pl.DataFrame({"t": ["a"] * 20})
    template = "{% for i in range(99999) %}{% endfor %}{{ t }}"
    assert render(template, frame) == ["a"] * 20


def test_the_default_template_has_a_line_for_each_column_or_the_only_one_as_it_is() -> None:
    assert render(default_template(["title"])) == ["Lamp", ""]
    assert render(default_template(["title", "screen size"]))[0] == "title: Lamp\nscreen size: 14"


names = st.text(min_size=1, max_size=8).filter(lambda name: name != "input") | st.sampled_from(
    [
        "class",
        "in",
        "not",
        "true",
        "None",
        "range",
        "dict",
        "loop",
        "self",
        "row",
        "価格",
        "a b",
        "{{",
        "{% x %}",
        "it's",
        '"',
        "\\n",
    ]
)


@settings(max_examples=50)
@given(st.lists(names, min_size=2, max_size=4, unique=True))
def test_columns_of_any_name_can_be_named_in_a_template(columns: list[str]) -> None:
    frame = pl.DataFrame({column: [str(index)] for index, column in enumerate(columns)})
    direct = "|".join("{{ " + reference(column) + " }}" for column in columns)
    assert render(direct, frame) == ["|".join(map(str, range(len(columns))))]
    lines = default_template(columns)
    assert template_columns(lines, columns) == tuple(columns)
    expected = "\n".join(f"{column}: {index}" for index, column in enumerate(columns))
    assert render(lines, frame) == [expected]


@given(st.text(alphabet="{}%#-+| .xy'\"()[]\n", max_size=30))
def test_any_text_is_a_template_or_a_task_error(template: str) -> None:
    try:
        rendered = render_inputs(template, pl.DataFrame({"x": ["1"], "y": ["2"]}))
    except TaskError:
        return
    assert rendered[0] == jinja2.Environment(keep_trailing_newline=True).from_string(template).render(
        x="1", y="2", row={}
    )
