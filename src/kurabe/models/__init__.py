"""Language models, wherever they run: open one by its reference."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kurabe.errors import InputError, KurabeError, ModelError
from kurabe.models.base import ChatModel, set_chain
from kurabe.models.engines.opened import open_local, unavailable_local
from kurabe.models.files import local
from kurabe.models.files.local import fingerprint_local
from kurabe.models.reference import ENGINES, FOLDERS, LOCAL, added, is_local, parse_reference, split_chain


def open_model(reference: str, **options: Any) -> ChatModel:
    """Open a chat model.

    A local model is loaded. A hosted one is not connected to before the first call.

    Parameters
    ----------
    reference : str
        Where the model runs, and its name: `openai:gpt-5.1`, `gguf:smollm2-135m`. `a | b` is a chain: if `a` fails, `b`
        is
        asked.
    **options
        Options of hosted models. A chain shares them; if it has several providers, it takes no key, address or headers,
        and it never takes a price.

        - `api_key`, `base_url`: instead of those of the environment and of the provider.
        - `timeout`: seconds in all, or a Timeouts; `attempts`: how often a call is tried; `policy`: a Policy, or a
          mapping of its fields.
        - `requests_per_minute`, `tokens_per_minute`: limits.
        - `concurrency`: calls at a time in `chat_many` and in contests.
        - `budget`: dollars, or a Budget that several models share; `price`: a Price.
        - `cache`: True, or the path of a file in which answers are kept.
        - `unsupported`: `error` or `drop`, for settings that the model does not take.
        - `headers`: sent with each call.

    Returns
    -------
    ChatModel

    Raises
    ------
    ModelError
        If there is no such model, or its file is not on this machine.
    InputError
        If a key is missing or an option is wrong.
    MissingExtraError
        If the engine is not installed. The message has the `pip install` line.
    """
    if not isinstance(reference, str):
        raise InputError(f"a model is named by a text such as 'openai:gpt-5.1', not {type(reference).__name__}")
    links = split_chain(reference)
    if len(links) > 1:
        return _chain(links, options)
    return _opened(reference, options)


def _chain(links: list[str], options: dict[str, Any]) -> ChatModel:
    """The models of a chain with the options that they share."""
    from kurabe.models._fallback import Fallback
    from kurabe.models.hosted.transport.budget import Budget

    hosted = [parsed for parsed in map(parse_reference, links) if not parsed.local]
    several = len({(parsed.scheme, parsed.address) for parsed in hosted}) > 1
    for name in ("api_key", "base_url", "headers", "price"):
        if options.get(name) is not None and (several or name == "price"):
            raise InputError(
                f"{name} is that of one model, and {' | '.join(links)!r} names several; set keys in the environment,"
                " or open each model and join them with kurabe.models._fallback.Fallback"
            )
    if isinstance(usd := options.get("budget"), int | float):
        options = {**options, "budget": Budget(usd)}
    opened = [_opened(link, {} if is_local(link) else options, last=link is links[-1]) for link in links]
    return Fallback(opened)


def _opened(reference: str, options: dict[str, Any], *, last: bool = True) -> ChatModel:
    """The model of one reference. `last`: whether there is no other to ask where its provider is down."""
    parsed = parse_reference(reference)
    if not parsed.local:
        from kurabe.models.hosted.connect import check_options, connect

        check_options(options)
        return connect(parsed, patient=last, **options)
    if options:
        raise InputError(f"{reference!r} is a local model and takes no {', '.join(options)}")
    return open_local(parsed)


def availability(reference: str) -> str | None:
    """None where the model could run now or after `kurabe pull`, else the reason why it can't. Loads nothing."""
    try:
        links = split_chain(reference)
        if len(links) > 1:
            reasons = [availability(link) for link in links]
            return next((reason for reason in reasons if reason is not None), None)
        parsed = parse_reference(reference)
        if not parsed.local:
            from kurabe.models.hosted.connect import unavailable

            return unavailable(parsed)
        return unavailable_local(parsed)
    except KurabeError as error:
        return str(error)


def pull_name(reference: str) -> str | None:
    """What to give `pull` before `reference` can be opened; None where nothing is to be fetched."""
    if len(split_chain(reference)) > 1:
        return next((name for link in split_chain(reference) if (name := pull_name(link)) is not None), None)
    parsed = parse_reference(reference)
    return local.pull_name(parsed) if parsed.scheme in LOCAL else None


def beside(reference: str, folder: Path) -> str:
    """The reference with the relative paths of its model and adapter taken from `folder` where there are such files;
    else as it is."""
    try:
        parsed = parse_reference(reference)
    except ModelError:
        return reference  # `availability` says what is wrong with it
    if parsed.scheme not in ENGINES and parsed.scheme not in FOLDERS:
        return reference
    found = replace(parsed, name=_beside(parsed.name, folder))
    if (adapter := parsed.options.get("adapter")) is not None:
        found = replace(found, options=parsed.options | {"adapter": _beside(adapter, folder)})
    return reference if found == parsed else str(found)


def _beside(name: str, folder: Path) -> str:
    """A link stays one: the hub's cache tells the parts of a model by the names of the links."""
    path = folder / name
    return os.path.abspath(path) if path.exists() else name


def fingerprint(reference: str) -> str:
    """What tells a model's file from another one under the same reference: the catalog's SHA-256, or size and time of
    change of a file of one's own; '' without files."""
    try:
        parsed = parse_reference(reference)
        if (engine := added(parsed.scheme)) is not None:
            return str(getattr(engine, "fingerprint", lambda reference: "")(parsed))
        return fingerprint_local(parsed) if parsed.local else ""
    except KurabeError:
        return ""


def _join(models: Sequence[ChatModel | str]) -> ChatModel:
    """A Fallback of models and references; the links of one that is among them stand in its place."""
    from kurabe.models._fallback import Fallback

    opened = [open_model(model) if isinstance(model, str) else model for model in models]
    return Fallback([link for model in opened for link in (model.models if isinstance(model, Fallback) else (model,))])


set_chain(_join)
