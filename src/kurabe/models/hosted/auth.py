"""Keys: where they are found, and the headers they become. They go into no message, repr, log or journal."""

import os
import threading
from typing import Protocol
from urllib.parse import quote

from kurabe.errors import InputError, MissingExtraError
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.providers import Provider
from kurabe.models.reference import COMPATIBLE

SERVICE = "kurabe"
"""The name under which keys lie in the system's keyring."""


class Authorize(Protocol):
    """Headers that prove who is asking, made anew for each request where a signature or a token needs it."""

    def __call__(self, request: HttpRequest, url: str) -> dict[str, str]: ...


class Key:
    """A key that shows itself to nobody: `repr` and `str` hold dots."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise InputError("the key holds characters that no key has (spaces, line ends, accents); copy it again")
        self._value = value

    def __repr__(self) -> str:
        return "Key(•••)"

    def reveal(self) -> str:
        """The key itself, for a header."""
        return self._value


def find_key(provider: Provider) -> tuple[Key, str] | None:
    """(key, where it was found) of the first variable that is set, else of the system's keyring, else None."""
    for variable in provider.key:
        if value := os.environ.get(variable, "").strip():
            return Key(value), variable
    kept = keyring_key(keyring_name(provider)) if provider.key else None
    return (Key(kept), "keyring") if kept else None


def keyring_name(provider: Provider) -> str:
    """The name of its key in the keyring: that of its variable, which rows of one provider share."""
    return provider.key[0]


def keyring_key(name: str) -> str | None:
    """The key that `kurabe keys set` put into the system's keyring; None without a key or a keyring."""
    if os.environ.get("KURABE_NO_KEYRING"):
        return None
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password(SERVICE, name)
    except (KeyringError, RuntimeError, OSError):
        return None


def authorize(provider: Provider, found: tuple[Key, str] | None, options: dict[str, str]) -> Authorize:
    """How requests to this provider are proved, with the key that `find_key` found, or one that was given and ''.

    Raises InputError if a key is needed and missing.
    """
    kind = provider.auth
    if found is None:
        if kind == "aws":
            from kurabe.models.hosted.sigv4 import signer

            return signer(options["region"])
        if kind == "google":
            return _Google()
        if kind == "none" or provider.local or not provider.key:
            return lambda request, url: {}
        raise InputError(missing_key(provider))
    if kind == "none":
        return lambda request, url: {}
    headers = _header("bearer" if kind in ("aws", "google") else kind, *found)
    return lambda request, url: headers


def missing_key(provider: Provider) -> str:
    """What to do where no key is set."""
    variables = " or ".join(provider.key)
    if provider.name == COMPATIBLE:
        return f"no key for the server: {variables}, which the reference names, is not set in the environment"
    return f"no key for {provider.title}: set {variables} in the environment, or run: kurabe keys set {provider.name}"


def _header(kind: str, key: Key, where: str) -> dict[str, str]:
    value = key.reveal()
    if kind == "azure":  # an Entra token is three parts with dots; a key has none
        kind = "bearer" if where.endswith("_AD_TOKEN") or value.count(".") == 2 else "api-key"
    if kind == "bearer":
        return {"authorization": f"Bearer {value}"}
    return {kind: value}


class _Google:
    """Application default credentials of google-auth, refreshed before they end."""

    def __init__(self) -> None:
        try:
            import google.auth
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            raise MissingExtraError("Google Cloud", "cloud") from None
        try:
            self._credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        except GoogleAuthError as error:
            raise InputError(
                f"no Google Cloud credentials: {error}. Run: gcloud auth application-default login"
            ) from None
        self._lock = threading.Lock()

    def __call__(self, request: HttpRequest, url: str) -> dict[str, str]:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        with self._lock:
            if not self._credentials.valid:
                try:
                    self._credentials.refresh(Request())  # type: ignore[no-untyped-call]
                except GoogleAuthError as error:
                    raise InputError(f"Google Cloud gives no token: {error}") from None
            return {"authorization": f"Bearer {self._credentials.token}"}


def fill(template: str, values: dict[str, str], *, escape: bool = False) -> str:
    """`{name}` replaced by its value, percent-encoded where `escape` is set."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe="") if escape else value)
    return template
