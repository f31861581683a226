"""Answers as models and people in many countries write them, and what they must be read as."""

import json
import math
import re
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import DataError
from kurabe.tasks import number_words
from kurabe.tasks.answers import fallback, read_answer, read_label, read_number, read_text

PLAIN = [
    ("45", 45), (" 45 ", 45), ("45.", 45), ("45.5", 45.5), ("0", 0), ("007", 7), (".99", 0.99), ("+5", 5), ("-5", -5),
    ("−5", -5), ("–5", -5), ("minus 5", -5), ("45!", 45), ("`45`", 45), ('"45"', 45), ("**45**", 45), ("*45*", 45),
    ("_45_", 45), ("[45]", 45), ("45\n", 45), ("45\n\nHuman: next", 45), ("{\"price\": 45.5}", 45.5),
    ("<b>45</b>", 45), ("1.2e3", 1200), ("1E3", 1000), ("2.5e-1", 0.25), ("1.2×10^3", 1200), ("1.2 x 10^3", 1200),
    ("1.2×10³", 1200), ("½", 0.5), ("3½", 3.5), ("2 ¼ cups", 2.25), ("20%", 20), ("20 percent", 20), ("12,5 %", 12.5),
    ("8/10", 8), ("4 out of 5", 4), ("4.5 stars", 4.5), ("3.5 kg", 3.5), ("around 12 inches", 12),
]  # fmt: skip

SEPARATORS = [
    ("1,234", 1234), ("1,234.56", 1234.56), ("1,234,567", 1234567), ("1,234,567.89", 1234567.89),
    ("1.234,56", 1234.56), ("1.234.567", 1234567), ("1.234.567,89", 1234567.89), ("1 234", 1234),
    ("1 234,56", 1234.56), ("1 234 567", 1234567), ("1\u00a0234,56", 1234.56), ("1\u202f234,56", 1234.56),
    ("1\u2009234.5", 1234.5), ("1'234.56", 1234.56), ("1’234.56", 1234.56), ("1'234'567", 1234567),
    ("1,23,456", 123456), ("1,23,456.78", 123456.78), ("12,34,56,789", 123456789), ("12,5", 12.5), ("12,50", 12.5),
    ("0,123", 0.123), ("0.123", 0.123), ("1.234", 1.234), ("1234,5", 1234.5), ("1234.5", 1234.5),
    ("1234,567", 1234.567), ("1_000", 1000), ("1{,}234", 1234), ("1.234 bis 2.345,50", 1789.75), ("１，２３４", 1234),
    ("４５．５", 45.5), ("٣٤٫٥", 34.5), ("١٬٢٣٤", 1234), ("१२३", 123), ("−1,234.5", -1234.5),
]  # fmt: skip

CURRENCIES = [
    ("$45", 45), ("$ 45.99", 45.99), ("45$", 45), ("45 $", 45), ("\\$45", 45), ("US$45", 45), ("USD 45", 45),
    ("USD45", 45), ("45 USD", 45), ("45USD", 45), ("45 dollars", 45), ("45 bucks", 45), ("€45", 45), ("45 €", 45),
    ("45,00 €", 45), ("45,- €", 45), ("45,– €", 45), ("1.234 €", 1234), ("€1.234", 1234), ("EUR 1.234,50", 1234.5),
    ("45 Euro", 45), ("£1,299", 1299), ("£12.50", 12.5), ("¥3000", 3000), ("￥３０００", 3000), ("3,000円", 3000),
    ("₹1,23,456", 123456), ("Rs. 1,499", 1499), ("Rs 499/-", 499), ("INR 2,50,000", 250000), ("R$ 1.234,56", 1234.56),
    ("R$1.234", 1234), ("CHF 1'234.50", 1234.5), ("45.- CHF", 45), ("1 234 kr", 1234), ("1.234 kr", 1234),
    ("kr 1.234,50", 1234.5), ("1 299,00 zł", 1299), ("49,99 zł", 49.99), ("1 500 Kč", 1500), ("12 990 ₽", 12990),
    ("500 руб.", 500), ("₩15,000", 15000), ("15,000원", 15000), ("Rp 150.000", 150000), ("1.500.000 ₫", 1500000),
    ("A$30", 30), ("C$30.50", 30.5), ("HK$120", 120), ("100块", 100), ("-$45", -45), ("$-45", -45), ("−€5,50", -5.5),
    ("($45.00)", -45), ("(1,234.56)", -1234.56), ("99 cents", 0.99), ("99¢", 0.99), ("2 dollars and 50 cents", 2.5),
    ("$1.234", 1.234), ("$0.99", 0.99), ("$.99", 0.99),
]  # fmt: skip

SCALES = [
    ("1.2k", 1200), ("1.2K", 1200), ("$5k", 5000), ("3M", 3e6), ("$3m", 3e6), ("2bn", 2e9), ("$2B", 2e9),
    ("1.5T", 1.5e12), ("3 million", 3e6), ("3.5 million dollars", 3.5e6), ("2 billion", 2e9), ("5 thousand", 5000),
    ("3 lakh", 3e5), ("₹2.5 lakhs", 2.5e5), ("1.5 crore", 1.5e7), ("2 Cr", 2e7), ("3 Mio. €", 3e6),
    ("2,5 Mrd. Euro", 2.5e9), ("3 Tsd. €", 3000), ("3 Millionen", 3e6), ("2 milliards", 2e9), ("2 mil", 2000),
    ("3 millones", 3e6), ("5 тыс. руб.", 5000), ("2 млн", 2e6), ("3 k€", 3000), ("3 juta", 3e6), ("USD 4MM", 4e6),
    ("約3万円", 30000), ("3万5千円", 35000), ("3万5000円", 35000), ("1億2000万", 1.2e8),
    ("1億2000万円です", 1.2e8), ("2兆円", 2e12),
    ("1.5万", 15000), ("1,200万円", 1.2e7), ("３万円", 30000), ("三万五千", 35000),
    ("三万五千円", 35000), ("二十円", 20), ("千円", 1000),
    ("5百円", 500), ("3만원", 30000), ("3만 5천원", 35000), ("2亿元", 2e8), ("50万日元", 500000),
]  # fmt: skip

RANGES = [
    ("$10–20", 15), ("$10-$20", 15), ("10-20 dollars", 15), ("$10 - $20", 15), ("10 -20", 15),
    ("between 10 and 20", 15), ("between $10 and $20", 15), ("from $10 to $20", 15), ("10 to 20", 15),
    ("10 bis 20 Euro", 15), ("zwischen 10 und 20 €", 15), ("entre 10 et 20 €", 15), ("entre 10 y 20 euros", 15),
    ("10~20", 15), ("10〜20万円", 150000), ("3万〜5万円", 40000), ("1-2 million", 1.5e6), ("$1-2k", 1500),
    ("$1.5k-$2.5k", 2000), ("10€-20€", 15), ("от 10 до 20", 15), ("1,000–2,000", 1500), ("$20-10", 20),
]  # fmt: skip

SENTENCES = [
    ("The price is $45.", 45), ("It costs about 45 dollars.", 45),
    ("I would estimate it at $1,299.99 today", 1299.99), ("The iPhone 15 with 64 GB costs $799", 799),
    ("The price of the iPhone 15 is 799.", 799), ("iPhone 15: $799", 799),
    ("A 12-pack of 16 oz bottles would be $24.99", 24.99), ("This 4K TV from 2021 costs 350", 350),
    ("RTX3080 sells for $700", 700), ("1. The price is 45", 45), ("1) $45\n2) $60", 45), ("Answer: 45", 45),
    ("answer = 45", 45), ("**Answer:** 45", 45), ("The answer is **$45**, not $50.", 45),
    ("Price: **$45**\nWeight: 3 lbs", 45), ("10 + 5 = 15", 15), ("10 + 5 = 15, 15*3 = 45", 45), ("\\boxed{45}", 45),
    ("So \\(3 \\times 15 = \\boxed{45}\\)", 45), ("$$\\boxed{\\$1,234.50}$$", 1234.5),
    ("5 apples at 3 each.\n#### 15", 15), ("The case is $30 and shipping $15, so in total $45.", 45),
    ("Base $20. Extras $30. Therefore $50.", 50), ("The original price was $100, now it is $80", 80),
    ("It was $100 but now costs $80", 80), ("20% off, so it is $80", 80), ("Based on 3 reviews, I'd say 45", 45),
    ("Released on 2021-05-03, it costs 45", 45), ("As of May 5, 2021 it is 45", 45), ("At 10:30 the price is 45", 45),
    ("In 2021 it sold for 45", 45), ("Final answer: 45. (I first thought 60.)", 45),
    ("45\n\nProduct: next\nPrice: 60", 45), ("Der Preis beträgt etwa 45,50 €", 45.5),
    ("Le prix est de 1 234,56 €", 1234.56), ("El precio es de 45 euros", 45), ("O preço é R$ 45,90", 45.9),
    ("Цена около 500 рублей", 500), ("価格は約3万円です。", 30000), ("64GBモデルは8万円です", 80000),
    ("价格大约是299元", 299),
    ("가격은 약 3만원입니다", 30000), ("2021年の価格は500円", 500), ("<think>maybe 60?</think>45", 45),
    ("https://x.y/123 says 45", 45), ("I'm sorry, I can't be exact, but about $45", 45),
    ("As an AI I can't know prices; my estimate is 45", 45), ("twenty-five dollars", 25), ("Twenty five", 25),
    ("one hundred and twenty", 120), ("two thousand five hundred", 2500), ("a hundred dollars", 100),
    ("three million", 3e6), ("zero", 0), ("one", 1), ("free", 0), ("It's free.", 0), ("無料", 0),
]  # fmt: skip

UNREAD = [
    "", " ", "\n", "no idea", "N/A", "unknown", "nan", "NaN", "inf", "-Infinity", "I cannot determine the price.",
    "None", "As an AI language model, I do not have access to prices.", "I can't provide prices after 2021.",
    "申し訳ありませんが、わかりません", "I don't know what the iPhone 15 costs", "This one is hard",
    "It depends on the model.",
    "9" * 400, "1e999", "2021-05-03", "1.2.3", "🙂", "\x00", "万が一", "Je ne sais pas", "free shipping included", "$",
    "-", "...",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), [*PLAIN, *SEPARATORS, *CURRENCIES, *SCALES, *RANGES, *SENTENCES])
def test_numbers(text: str, value: float) -> None:
    assert read_number(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["九" * 400, "one " + "hundred " * 200, "hundred " * 750, f"{'one million ' * 60}to {'hundred ' * 200}"]
)
def test_a_model_that_repeats_itself_says_no_infinite_number(text: str) -> None:
    value = read_number(text)
    assert value is None or math.isfinite(value)


@pytest.mark.parametrize("text", UNREAD)
def test_what_holds_no_number(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("45.00 for a pack of 10", 45), ("45", 45), (" 45.99.\nThe total is $60", 45.99), ("10-20 depending", 15),
        ("**45**", 45), ("about 45", 45), ("$45 and then $60", 45), ("1.2k", 1200), ("not clear, but 30 at most", 30),
        ("not known", None),
    ],
)  # fmt: skip
def test_after_a_prefill_the_number_at_the_start_wins(text: str, value: float | None) -> None:
    assert read_number(text, prefill="Price is $") == value


def test_without_a_prefill_the_cue_wins() -> None:
    assert read_number("45.00 for a pack; in total $60") == 60


def listed(name: str) -> list[Any]:
    lines = (Path(__file__).parent / "answers" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("text", "value"), listed("numbers"))
def test_listed_numbers_of_many_locales(text: str, value: float | None) -> None:
    assert read_number(text) == (value if value is None else pytest.approx(value, rel=1e-12))


@pytest.mark.parametrize(("text", "label", "labels"), listed("labels"))
def test_listed_labels_of_many_languages(text: str, label: str | None, labels: list[str]) -> None:
    assert read_label(text, labels) == label


NUMBER_WORDS = re.compile("|".join(number_words.all_words()) + "|free|grat|kostenlos|бесплатно", re.IGNORECASE)


@given(st.text(max_size=200))
def test_no_number_is_read_where_there_is_none(text: str) -> None:
    plain = "".join(char for char in text if unicodedata.numeric(char, None) is None and char not in "천백십만억조")
    plain = NUMBER_WORDS.sub("", unicodedata.normalize("NFKC", plain))
    if not re.search(r"\d", plain) and not NUMBER_WORDS.search(plain):
        assert read_number(plain) is None


SENTIMENT = ("positive", "negative", "neutral")
SPAM = ("spam", "not spam")
LABELS = [
    ("positive", SENTIMENT, "positive"), ("Positive.", SENTIMENT, "positive"),
    ("**POSITIVE**", SENTIMENT, "positive"), ("'positive'", SENTIMENT, "positive"),
    ("ｐｏｓｉｔｉｖｅ", SENTIMENT, "positive"), ("Label: Positive", SENTIMENT, "positive"),
    ("Sentiment = negative", SENTIMENT, "negative"), ("The review is clearly negative.", SENTIMENT, "negative"),
    ("The sentiment is positive, not negative", SENTIMENT, "positive"),
    ("It is positive or negative", SENTIMENT, None), ("positive/negative", SENTIMENT, None),
    ("positive\n\nText: bad\nnegative", SENTIMENT, "positive"),
    ("Positive: despite a few negative words", SENTIMENT, "positive"), ("neut", SENTIMENT, "neutral"),
    ("n", SENTIMENT, None), ("It has negative parts. Final answer: positive", SENTIMENT, "positive"),
    ("\\boxed{negative}", SENTIMENT, "negative"),
    ("It may seem negative but the answer is **positive**", SENTIMENT, "positive"), ("I can't say", SENTIMENT, None),
    ("<think>negative?</think>positive", SENTIMENT, "positive"), ("", SENTIMENT, None), ("7", SENTIMENT, None),
    ("It isn't positive", ("positive", "negative"), "negative"), ("not positive", SENTIMENT, None),
    ("spam", SPAM, "spam"), ("not spam", SPAM, "not spam"), ("This is not spam.", SPAM, "not spam"),
    ("Spam!", SPAM, "spam"), ("very good", ("good", "very_good"), "very_good"),
    ("It's very-good", ("good", "very_good"), "very_good"), ("A", ("A", "B"), "A"), ("a", ("A", "B"), "A"),
    ("(B)", ("A", "B"), "B"), ("A) because", ("A", "B"), "A"), ("Option B", ("A", "B"), "B"),
    ("The answer is A", ("A", "B"), "A"), ("A good choice", ("A", "B"), None), ("a thing", ("A", "B"), None),
    ("3", tuple("12345"), "3"), ("4 out of 5", tuple("12345"), "4"), ("4.0", tuple("12345"), "4"),
    ("15", tuple("12345"), None), ("Rating: 5", tuple("12345"), "5"), ("-1", ("-1", "1"), "-1"),
    ("answer is -1", ("-1", "1"), "-1"), ("five", tuple("12345"), "5"), ("肯定です", ("肯定", "否定"), "肯定"),
    ("答えは否定です", ("肯定", "否定"), "否定"), ("肯定ではない", ("肯定", "否定"), "否定"), ("👍",
    ("👍", "👎"), "👍"),
    ("I say 👎!", ("👍", "👎"), "👎"), ("Положительный", ("положительный", "отрицательный"), "положительный"),
    ("STRASSE", ("straße", "weg"), "straße"), ("Home & Kitchen", ("Home & Kitchen", "Kitchen"), "Home & Kitchen"),
    ("C++", ("C", "C++", "C#"), "C++"),
    ("Electronics, since it has a battery", ("Electronics", "Toys"), "Electronics"), ("art", ("art", "part"), "art"),
    ("a part of it", ("art", "part"), "part"), ("yes", ("Yes", "No"), "Yes"),
    ("No, it does not.", ("Yes", "No"), "No"), ("a", ("A", "a"), "a"), ("***", ("***", "b"), "***"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "labels", "label"), LABELS)
def test_labels(text: str, labels: tuple[str, ...], label: str | None) -> None:
    assert read_label(text, labels) == label


def test_text_is_kept_as_it_is_without_thoughts() -> None:
    assert read_text(" <think>hm</think>\n Paris. ") == "Paris."
    assert read_text(" \n\x00") is None


def test_read_answer_reads_by_kind() -> None:
    assert read_answer("about $3", "number") == 3
    assert read_answer("Spam.", "label", SPAM) == "spam"
    assert read_answer(" Spam. ", "text") == "Spam."


def test_the_fallback_is_the_median_or_the_most_frequent() -> None:
    assert fallback(np.array([1.0, 2.0, 100.0]), "number") == 2.0
    assert fallback(["b", "a", "b"], "label") == "b"
    assert fallback(["b", "a"], "text") == "a"
    with pytest.raises(DataError, match="empty"):
        fallback([], "number")


@given(st.text(max_size=300))
def test_any_text_gives_a_finite_number_or_none(text: str) -> None:
    for prefill in ("", "Price is $"):
        value = read_number(text, prefill)
        assert value is None or math.isfinite(value)


_PIECES = [
    *"0123456789.,'-–() $€%kmMe万億千円三一/=*:\n\\{}",
    "million",
    " to ",
    "and ",
    "twenty ",
    "\\boxed{",
    "not ",
    "1e3",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_text_made_of_what_numbers_are_made_of(text: str) -> None:
    value = read_number(text)
    assert value is None or math.isfinite(value)


@given(st.text(max_size=200), st.lists(st.text(max_size=8), max_size=5))
def test_a_label_is_one_of_the_labels_or_none(text: str, labels: list[str]) -> None:
    assert read_label(text, labels) in {None, *labels}


@given(
    st.lists(st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=1, max_size=8), min_size=1, unique=True),
    st.data(),
)
def test_a_label_by_itself_is_read(labels: list[str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    assert read_label(f" {label}\n", labels) == label


LOCALES = [(",", "."), (".", ","), (" ", ","), ("\u00a0", ","), ("\u202f", ","), ("'", "."), ("", "."), ("", ",")]


@given(
    cents=st.integers(0, 10**11),
    locale=st.sampled_from(LOCALES),
    around=st.sampled_from(["{}", "${}", "{} €", "Answer: {}", "about {} USD", "**{}**"]),
    negative=st.booleans(),
)
def test_a_number_written_in_any_locale_is_read_back(
    cents: int, locale: tuple[str, str], around: str, negative: bool
) -> None:
    thousands, decimal = locale
    whole = f"{cents // 100:,}".replace(",", thousands)
    value = -cents / 100 if negative else cents / 100
    text = around.format(f"{'-' if negative else ''}{whole}{decimal}{cents % 100:02d}")
    assert read_number(text) == pytest.approx(value, abs=1e-9)


HOSTILE = [
    "one hundred ", "ein", "few ", "rose 3 to ", "\\frac{1}{", "①", "십 ", "A, ", "no ", "whether ",
    "1", "1,", "1 ", "123 ", "1.", "-", "(", "$", "**", "a", "万", "三", "twenty ", "1e", "so ", "is ", "not ", "½",
    "\n", "{,", "1/", "a third ", "1-", "√1", "10^", "Q1 ", "1 x ", "although ",
    "but it is ", "the 2020 ", "1:1 ", "三分之",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_of_anything_is_read_in_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    read_number(text)
    read_number(text, prefill="Price is $")
    read_label(text, ["a", "1", "is", *SENTIMENT])
    # Measured at 0.2 to 4 s, up to 6 under coverage on a busy machine; a quadratic pattern would take many minutes.
    assert time.process_time() - start < 60
