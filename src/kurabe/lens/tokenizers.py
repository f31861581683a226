"""Tokenizers by reference: those of models on this machine, tiktoken's, and hosted ones that only count."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import msgspec

from kurabe.errors import InputError, MissingExtraError, ModelError, missing
from kurabe.models import open_model
from kurabe.models.engines.base import LocalModel
from kurabe.models.files.local import located, pull_command
from kurabe.models.reference import Reference, parse_reference, split_chain

TIKTOKEN: Final = "tiktoken"
OPENAI: Final = ("openai", "openai-responses", "azure", "azure-responses")
"""Providers whose models' tokenizers tiktoken knows by the models' names."""
LEAST_CONTEXT: Final = 64


class Piece(NamedTuple):
    """A token as its tokenizer gives it. `data` of a special token is its name."""

    id: int
    data: bytes
    special: bool


class Opened(NamedTuple):
    """A tokenizer: what it cuts a text into, or where that is not to be had, how many tokens it counts. `doubts` say
    why tokenizer and model may not belong together."""

    cut: Callable[[str], list[Piece]] | None
    counter: Callable[[str], int] | None = None
    doubts: tuple[str, ...] = ()


def check_tokenizer(reference: str) -> None:
    """Raises InputError or ModelError where a reference names no tokenizer. Opens nothing."""
    if not isinstance(reference, str):
        raise InputError(f"a tokenizer is named by a text such as 'gguf:smollm2-135m', not {reference!r:.80}")
    if reference.startswith(f"{TIKTOKEN}:"):
        _encoding_name(reference)
        return
    if len(split_chain(reference)) > 1:
        raise InputError(f"{reference!r} names several models; name one")
    parsed = parse_reference(reference)
    if parsed.local and parsed.scheme not in _HERE:
        raise InputError(
            f"{reference!r} shows no tokens; name one of: {', '.join(f'{scheme}:…' for scheme in _HERE)}, {TIKTOKEN}:…,"
            " or a hosted model that counts them"
        )


@contextmanager
def open_tokenizer(reference: str) -> Iterator[Opened]:
    """The tokenizer of `reference`. Raises InputError, ModelError, and MissingExtraError where a library is missing."""
    check_tokenizer(reference)
    if reference.startswith(f"{TIKTOKEN}:"):
        yield Opened(_tiktoken(_encoding_name(reference)))
        return
    parsed = parse_reference(reference)
    if parsed.scheme in _HERE:
        with _HERE[parsed.scheme](parsed) as opened:
            yield opened
    elif parsed.scheme in OPENAI:
        yield Opened(_tiktoken(_encoding_of(parsed)))
    else:
        from kurabe.models.hosted.model import HostedModel

        with open_model(reference) as model:
            assert isinstance(model, HostedModel)
            yield Opened(None, model.tokens_of)


@contextmanager
def _gguf(parsed: Reference) -> Iterator[Opened]:
    located(parsed)  # refuses an invalid name as it was written
    # Nothing is evaluated, so that the least memory for keys and values will do.
    least = msgspec.structs.replace(parsed, options=parsed.options | {"context": str(LEAST_CONTEXT)})
    with open_model(str(least)) as model:
        assert isinstance(model, LocalModel)

        def cut(text: str) -> list[Piece]:
            pieces = model.tokenize(text)
            # A special token never comes out of a text that is only text; of the others each may.
            plain = {piece.id for piece in model.tokenize(text, special=False)}
            special = {
                piece.id: name
                for piece in set(pieces)
                if piece.id not in plain and (name := model.name_of(piece.id)) and _is_special(model, piece.id, name)
            }
            return [
                Piece(piece.id, special[piece.id].encode() if piece.id in special else piece.data, piece.id in special)
                for piece in pieces
            ]

        yield Opened(cut, doubts=tuple(_gguf_doubts(parsed, model)))


def _is_special(model: LocalModel, token: int, name: str) -> bool:
    return [piece.id for piece in model.tokenize(name, special=False)] != [token] and token in (
        piece.id for piece in model.tokenize(name)
    )


def _gguf_doubts(parsed: Reference, model: LocalModel) -> list[str]:
    from kurabe.lens.belongs import doubts
    from kurabe.models.weights.headers import read_path

    path = located(parsed)
    if path is None or path.is_dir():
        return []
    return doubts(read_path(path), lambda name: len(model.tokenize(name, special=True)) <= 1 + _begins(model))


def _begins(model: LocalModel) -> int:
    """How many tokens the model puts before every text."""
    return len(model.tokenize(""))


@contextmanager
def _hf(parsed: Reference) -> Iterator[Opened]:
    if find_spec("transformers") is None or find_spec("torch") is None:
        raise MissingExtraError("a tokenizer of Transformers", "transformers")
    path = located(parsed)
    if path is None:
        raise ModelError(f"the model {parsed.name!r} is not on this machine yet; fetch it with: {pull_command(parsed)}")
    from kurabe.models.engines.hf.check import mismatches
    from kurabe.models.engines.hf.load import read_tokenizer
    from kurabe.models.engines.hf.text import TokenBytes

    config, tokenizer = read_tokenizer(path, parsed)
    known = TokenBytes(tokenizer)

    def cut(text: str) -> list[Piece]:
        return [
            Piece(
                token, known.name(token).encode() if known.is_special(token) else known[token], known.is_special(token)
            )
            for token in tokenizer(text).input_ids
        ]

    yield Opened(cut, doubts=tuple(mismatches(config, tokenizer)))


@contextmanager
def _wordllama(parsed: Reference) -> Iterator[Opened]:
    from kurabe.models.embeddings.wordllama import embedding_dimensions, tokenizer

    embedding_dimensions(str(parsed))  # refuses an invalid name before anything is read

    def cut(text: str) -> list[Piece]:
        encoding = tokenizer().encode(text)
        parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, strict=True)
        return [
            Piece(number, token.encode() if special else _sentencepiece(token), bool(special))
            for number, token, special in parts
        ]

    yield Opened(cut)


_HERE: Final[dict[str, Callable[[Reference], Any]]] = {"gguf": _gguf, "hf": _hf, "wordllama": _wordllama}
"""What has its tokenizer on this machine."""


def _sentencepiece(token: str) -> bytes:
    """A token's bytes: SentencePiece writes a space as ▁ and a byte as <0xE6>."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def _encoding_name(reference: str) -> str:
    tiktoken = _library()
    name, names = reference.partition(":")[2], tiktoken.list_encoding_names()
    if name not in names:
        raise InputError(f"{reference!r}: {missing('encoding of tiktoken', name, sorted(names))}")
    return name


def _encoding_of(parsed: Reference) -> str:
    try:
        name: str = _library().encoding_name_for_model(parsed.name)
    except KeyError:
        raise InputError(
            f"tiktoken does not know the tokenizer of '{parsed}'; name it: {TIKTOKEN}:o200k_base for models since"
            f" GPT-4o, {TIKTOKEN}:cl100k_base for older ones"
        ) from None
    return name


def _tiktoken(name: str) -> Callable[[str], list[Piece]]:
    try:
        encoding = _library().get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise ModelError(
            f"tiktoken has no file of the encoding {name!r} here and can't fetch it ({type(error).__name__});"
            " with a network it is fetched once into the folder that TIKTOKEN_CACHE_DIR names, and such a folder can be"
            " copied to this machine"
        ) from None
    special = {encoding.encode_single_token(name): name for name in encoding.special_tokens_set}

    def cut(text: str) -> list[Piece]:
        return [
            Piece(token, encoding.decode_single_token_bytes(token), token in special)
            for token in encoding.encode(text, allowed_special="all")
        ]

    return cut


def _library() -> Any:
    if find_spec("tiktoken") is None:
        raise MissingExtraError("a tokenizer of OpenAI's models", "tokens")
    import tiktoken

    return tiktoken
