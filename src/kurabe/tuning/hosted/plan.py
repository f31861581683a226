"""What a job would be: the file as the provider wants it, its tokens and what it costs. Nothing is sent here."""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from os.path import commonprefix

import msgspec

from kurabe.errors import HIDDEN, TuningError, missing, without_secrets
from kurabe.models.reference import Reference
from kurabe.tuning.hosted.base import Row, Settings
from kurabe.tuning.hosted.prices import TrainingPrice, training_price
from kurabe.tuning.hosted.rows import BY_LENGTH, check, check_size, count
from kurabe.tuning.hosted.services import service_of, title

SHORTEST = 8
"""Characters: a shorter text of a row is not looked for in what a provider says."""
SEPARATOR = "\0"
PART = 24
"""Characters: so much of a text's beginning is looked for too."""


class Plan(msgspec.Struct, frozen=True):
    """A job that was not begun. `key` stands for all of it: the same rows, model and settings have the same key.

    `tokens`: of all rows, once. `usd`: the estimate for all epochs, None where no price is known.
    """

    key: str
    base: Reference
    settings: Settings
    options: dict[str, str]
    data: bytes
    rows: int
    tokens: int
    counted: str
    usd: float | None
    price: TrainingPrice | None
    texts: frozenset[str]

    def __repr__(self) -> str:
        return f"Plan({self.base}, {self.rows:,} rows, {self.tokens:,} tokens)"

    def describe(self) -> str:
        """What would be sent and what it costs, in one sentence."""
        counted = "" if self.counted != BY_LENGTH else ", guessed from their length,"
        sent = (
            f"{self.rows:,} rows with {self.tokens:,} tokens{counted} would be sent to {title(self.base)}, and"
            f" {self.base.name} tuned on them for {self.settings.epochs} epochs"
        )
        if self.usd is None or self.price is None:
            return f"{sent}; what that costs is not known here, so look at the provider's prices"
        return f"{sent}, for about ${self.usd:,.2f} (${self.price.usd:g} per million tokens, as of {self.price.day})"

    def hidden_all(self, texts: Sequence[str]) -> list[str]:
        """`hidden` of each, in one go: there may be thousands of events and of rows."""
        return self.hidden(SEPARATOR.join(text.replace(SEPARATOR, " ") for text in texts)).split(SEPARATOR)

    def hidden(self, text: str) -> str:
        """`text`, which a provider said, without what stands in the rows, and without keys. Of a text of a row that it
        repeats in part, what is there from the beginning is hidden too, where that is PART characters or more."""
        for own in sorted(self.texts, key=len, reverse=True):
            text = text.replace(own, HIDDEN)
        for own in self.texts:
            at = text.find(own[:PART]) if len(own) > PART else -1
            while at >= 0:
                end = at + len(commonprefix([own, text[at:]]))  # noqa: RUF071, characters are meant
                text = text[:at] + HIDDEN + text[end:]
                at = text.find(own[:PART], at + len(HIDDEN))
        return without_secrets(text)


def make_plan(base: Reference, rows: Sequence[Row], settings: Settings, options: Mapping[str, str] = {}) -> Plan:
    """Check the rows and the settings and estimate the cost.

    `options`: what the provider needs besides, as `Service.needs` names it. Raises TuningError that names the row or
    the setting.
    """
    service, whose = service_of(base, options), title(base)
    for name in Settings.__struct_fields__:
        if name != "epochs" and getattr(settings, name) is not None and name not in service.settings:
            raise TuningError(
                f"{whose}: {missing('setting of its tuning', name, ['epochs', *sorted(service.settings)])}"
            )
    for name in service.needs:
        if not options.get(name):
            raise TuningError(f"{whose} tunes with a file in a place of yours; set {name}:")
    check(rows, service.limits, whose)
    counted = count(rows, base)
    data = service.write(rows)
    check_size(counted, service.row_limit(base.name), data, service.limits, whose)
    tokens = sum(counted.tokens)
    price = training_price(base)
    said = msgspec.json.encode([str(base), settings, sorted(options.items())])
    texts = {row.answer for row in rows} | {message.text for row in rows for message in row.messages}
    texts |= {json.dumps(text, ensure_ascii=ascii)[1:-1] for text in texts for ascii in (True, False)}
    return Plan(
        key=blake2b(said + b"\0" + data, digest_size=8).hexdigest(),
        base=base,
        settings=settings,
        options=dict(options),
        data=data,
        rows=len(rows),
        tokens=tokens,
        counted=counted.by,
        usd=None if price is None else tokens * settings.epochs * price.usd / 1e6,
        price=price,
        texts=frozenset(text for text in texts if len(text) >= SHORTEST and SEPARATOR not in text),
    )
