"""Language models, wherever they run: open one by its reference."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kurabe.errors import InputError, KurabeError, MissingExtraError, ModelError, missing
from kurabe.models.base import ChatModel
from kurabe.models.catalog import catalog as known_models
from kurabe.models.catalog import catalog_entry
from kurabe.models.reference import Reference, is_local, parse_reference, split_chain


def open_model(reference: str, **options: Any) -> ChatModel:
    """The chat model that `reference` names; with `a | b` a chain in which b is asked where a fails.

    A local model is loaded; no connection to a hosted one is made yet. `options` of hosted models: `api_key` and
    `base_url` instead of the environment's and the provider's; `timeout`, seconds in all or a `Timeouts`; `attempts`;
    `requests_per_minute`, `tokens_per_minute`; `concurrency`, calls of a contest in flight; `budget`, dollars or a
    `Budget` that models share; `cache`, True or the path of a file; `price`, a `Price` in dollars per million tokens;
    `unsupported`, `error` or `drop` for settings that the model does not take; `headers`, sent with each call. The
    models of a chain share all of these; of several providers it takes no key, address or headers, and never a price.

    Raises ModelError where there is no such model or its file is not on this machine yet, InputError where a key or an
    option is missing, and MissingExtraError where its engine is not installed.
    """
    if not isinstance(reference, str):
        raise InputError(f"a model is named by a text such as 'openai:gpt-5.1', not {type(reference).__name__}")
    links = split_chain(reference)
    if len(links) > 1:
        return _chain(links, options)
    return _opened(reference, options)


def _chain(links: list[str], options: dict[str, Any]) -> ChatModel:
    """The models of a chain with the options that they share."""
    from kurabe.models.fallback import Fallback
    from kurabe.models.transport.budget import Budget

    hosted = [parsed for parsed in map(parse_reference, links) if not parsed.local]
    several = len({(parsed.scheme, parsed.address) for parsed in hosted}) > 1
    for name in ("api_key", "base_url", "headers", "price"):
        if options.get(name) is not None and (several or name == "price"):
            raise InputError(
                f"{name} is that of one model, and {' | '.join(links)!r} names several; set keys in the environment,"
                " or open each model and join them with kurabe.models.fallback.Fallback"
            )
    if isinstance(usd := options.get("budget"), int | float):
        options = {**options, "budget": Budget(usd)}
    opened = [_opened(link, {} if is_local(link) else options, last=link is links[-1]) for link in links]
    return Fallback(opened)


def _opened(reference: str, options: dict[str, Any], *, last: bool = True) -> ChatModel:
    """The model of one reference. `last`: whether there is no other to ask where its provider is down."""
    parsed = _chat_reference(reference)
    if not parsed.local:
        from kurabe.models.connect import check_options, connect

        check_options(options)
        return connect(parsed, patient=last, **options)
    if options:
        raise InputError(f"{reference!r} is a local model and takes no {', '.join(options)}")
    path = _model_file(parsed)
    if path is None:
        raise ModelError(
            f"the model {parsed.name!r} is not on this machine yet; fetch it with: kurabe pull {parsed.name}"
        )
    _require_engine()
    try:
        from kurabe.models.engines.llama_cpp import LlamaCpp
    except ImportError as error:  # the wheel leaves OpenMP to the system, and small images lack it
        raise ModelError(
            f"llama.cpp cannot be loaded: {error}; where libgomp is missing, install it (Debian, Ubuntu: libgomp1)"
        ) from None

    return LlamaCpp(path, reference=reference, context=parsed.number("context"))


def availability(reference: str) -> str | None:
    """None where the model could run now or after `kurabe pull`, else the reason why it can't. Loads nothing."""
    try:
        links = split_chain(reference)
        if len(links) > 1:
            reasons = [availability(link) for link in links]
            return next((reason for reason in reasons if reason is not None), None)
        parsed = _chat_reference(reference)
        if not parsed.local:
            from kurabe.models.connect import unavailable

            return unavailable(parsed)
        path = _model_file(parsed)
        _require_engine()
    except KurabeError as error:
        return str(error)
    if path is not None and not path.is_file():
        return f"there is no file {path}; name a GGUF file, or a model that `kurabe pull` knows"
    return None


def pull_name(reference: str) -> str | None:
    """The name to `pull` before `reference` can be opened; None where nothing is to be fetched."""
    if len(split_chain(reference)) > 1:
        return next((name for link in split_chain(reference) if (name := pull_name(link)) is not None), None)
    parsed = _chat_reference(reference)
    return parsed.name if parsed.local and _model_file(parsed) is None else None


def beside(reference: str, folder: Path) -> str:
    """The reference with a relative path taken from `folder` where there is such a file; else as it is."""
    try:
        parsed = parse_reference(reference)
    except ModelError:
        return reference  # `availability` says what is wrong with it
    path = folder / parsed.name
    return str(replace(parsed, name=str(path.resolve()))) if parsed.scheme == "gguf" and path.is_file() else reference


def fingerprint(reference: str) -> str:
    """What tells a model's file from another one under the same reference: the catalog's SHA-256, or size and time of
    change of a file of one's own; '' where there is none."""
    try:
        parsed = _chat_reference(reference)
        path = _model_file(parsed) if parsed.local else None
    except KurabeError:
        return ""
    if parsed.local and parsed.name in known_models():
        return catalog_entry(parsed.name).sha256
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}" if path is not None and path.is_file() else ""


def _chat_reference(reference: str) -> Reference:
    parsed = parse_reference(reference)
    if parsed.scheme == "wordllama":
        raise ModelError(f"{reference!r} is an embedding model; a chat model is needed, such as 'gguf:smollm2-135m'")
    return parsed


def _model_file(parsed: Reference) -> Path | None:
    """The path that the reference names, or the pulled file of the catalog's model; None where it is to be pulled."""
    from kurabe.models.store import pulled_path

    if "/" in parsed.name or "\\" in parsed.name or parsed.name.lower().endswith(".gguf"):
        return Path(parsed.name).expanduser()
    if parsed.name not in known_models():
        raise ModelError(
            f"model reference '{parsed}': {missing('model', parsed.name, known_models())};"
            " or give the path of a .gguf file"
        )
    return pulled_path(parsed.name)


def _require_engine() -> None:
    if find_spec("xllamacpp") is None:
        raise MissingExtraError("a model on this machine (llama.cpp)", "local")
