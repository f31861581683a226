"""What a picture may cost: its size is read from its first bytes, and the bound holds where tokens were measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.messages import Image
from kurabe.models._pictures import LARGEST, Pixels, most_picture_tokens, picture_size

# The beginnings of pictures of 300 by 200 pixels, written by Pillow (of JPEG without the tables).
HEADERS = {
    "PNG": "89504e470d0a1a0a0000000d494844520000012c000000c80103000000",
    "GIF": "4749463837612c01c8008000000000000000002c000000002c01c800",
    "JPEG": "ffd8ffe000104a46494600010100000100010000ffc000110800c8012c030122",
    "progressive JPEG": "ffd8ffe000104a46494600010100000100010000ffc200110800c8012c030122",
    "WebP": "52494646a600000057454250565038209a0000007010009d012a2c01c8003e6d",
    "lossless WebP": "5249464624000000574542505650384c180000002f2bc1310007d084",
    "WebP with alpha": "52494646e800000057454250565038580a000000180000002b0100c70000414c5048",
}
# Tokens of one picture, as measured by huggingface.co/datasets/JOHNISKING/image-token-cost.
MEASURED = {
    (256, 256): {"claude-opus-5-5": 177, "claude-haiku-4-5": 165, "gemini-3-flash": 1090, "gpt-6": 77, "gpt-5.5": 77},
    (1024, 1024): {
        "claude-opus-5-5": 1446, "claude-haiku-4-5": 1434, "gemini-3-flash": 1090, "gpt-6": 1229, "gpt-5.5": 1229,
    },
    (2560, 1440): {
        "claude-opus-5-5": 3069, "claude-haiku-4-5": 1657, "gemini-3-flash": 1101, "gpt-6": 4320, "gpt-5.5": 4320,
    },
    (4032, 3024): {
        "claude-opus-5-5": 4005, "claude-haiku-4-5": 1661, "gemini-3-flash": 1065, "gpt-6": 14364, "gpt-5.5": 11868,
    },
}  # fmt: skip
# Tokens that the providers' documentation works out.
DOCUMENTED = [
    ("gpt-4o", (1024, 1024), 765), ("gpt-4o", (2048, 4096), 1105), ("gpt-4o-mini", (2048, 4096), 2_833 + 6 * 5_667),
    ("gpt-4.1-mini", (1024, 1024), 1_659), ("gpt-4.1-nano", (1800, 2400), 3_572), ("o4-mini", (1024, 1024), 1_762),
    ("claude-sonnet-4-5", (1092, 1092), 1_590), ("claude-opus-4-7", (2576, 2576), 4_784),
    ("gemini-2.5-flash", (960, 540), 6 * 258), ("pixtral-12b", (1024, 1024), 64 * 65),
    ("Qwen/Qwen2-VL-72B-Instruct", (3_584, 3_584), 16_384),
]  # fmt: skip


def png(width: int, height: int) -> Image:
    return Image(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big"), "image/png")


@pytest.mark.parametrize("kind", HEADERS)
def test_the_size_is_read_from_the_first_bytes(kind: str) -> None:
    data = bytes.fromhex(HEADERS[kind])
    assert picture_size(data) == Pixels(300, 200)
    assert [size for end in range(len(data)) if (size := picture_size(data[:end])) not in (None, (300, 200))] == []


@given(st.sampled_from(sorted(HEADERS)), st.integers(0, 60), st.binary(max_size=8))
def test_any_bytes_have_a_size_or_none(kind: str, at: int, patch: bytes) -> None:
    data = bytes.fromhex(HEADERS[kind])
    size = picture_size(data[:at] + patch + data[at + len(patch) :])
    assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [*DOCUMENTED, *((model, size, tokens) for size, row in MEASURED.items() for model, tokens in row.items())],
)
def test_the_bound_holds(model: str, size: tuple[int, int], tokens: int) -> None:
    assert tokens <= most_picture_tokens(png(*size), model, "openrouter")


def test_a_deployment_of_any_name_may_be_the_dearest_model() -> None:
    assert most_picture_tokens(png(64, 64), "my-own", "azure") == 48_169


def test_a_picture_of_unknown_size_counts_as_the_largest() -> None:
    for model in ("claude-opus-5-5", "gemini-3-flash", "gpt-6", "qwen"):
        unknown = most_picture_tokens(Image(b"\xff\xd8\xff", "image/jpeg"), model, "openrouter")
        assert unknown == most_picture_tokens(png(*LARGEST), model, "openrouter") > 0
