"""Whether the patterns by which an adapter names a model's modules can be matched in little time: some take years."""

import re
from collections.abc import Sequence
from typing import Any, Final

from kurabe.errors import ModelError
from kurabe.models import bounded

SECONDS: Final = 10.0
_WHERE: Final = (
    "target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern",
    "target_parameters",
)  # fmt: skip
_NO_PATTERN: Final = re.compile(r"[\w.-]*")


def check_patterns(config: dict[str, Any], names: Sequence[str], adapter: object) -> None:
    """Raises ModelError where matching the patterns of adapter_config.json with the `names` of modules takes long."""
    patterns: list[str] = []
    for field in _WHERE:
        value = config.get(field)
        patterns += [value] if isinstance(value, str) else [one for one in value or () if isinstance(one, str)]
    patterns = [pattern for pattern in patterns if not _NO_PATTERN.fullmatch(pattern)]
    if not patterns:
        return
    try:
        bounded.call("kurabe.models.engines.adapter_patterns:match", patterns, list(names), seconds=SECONDS)
    except bounded.LimitError:
        raise ModelError(
            f"the adapter {adapter} names modules by a pattern that takes more than {SECONDS:g} s; it was made to, or"
            " is damaged"
        ) from None
    except bounded.FailedError as error:
        raise ModelError(f"the adapter {adapter} names modules by a pattern that can't be used: {error}") from None


def match(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Match each pattern with each name in the ways that PEFT does."""
    for pattern in patterns:
        ways = [re.compile(rf"(?:{pattern})\Z"), re.compile(rf"(.*\.)?({pattern})$"), re.compile(rf".*?\.{pattern}\.")]
        for name in names:
            for way in ways:
                way.match(name)
                way.match(f"base_model.model.{name}")
