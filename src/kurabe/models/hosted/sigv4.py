"""AWS Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html),
and where the credentials for it are found."""

import hmac
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import msgspec

from kurabe.errors import InputError, MissingExtraError
from kurabe.models.codecs.base import HttpRequest

if TYPE_CHECKING:
    from kurabe.models.hosted.auth import Authorize

_UNSIGNED: Final = frozenset(
    {
        "authorization", "baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amz-date",
        "x-amz-security-token", "x-amzn-trace-id",
    }
)  # fmt: skip
"""Headers that proxies change or that are set here anew."""


class Credentials(msgspec.Struct, frozen=True):
    """An AWS access key; `session_token` is '' for a lasting one. Shows itself to nobody."""

    access_key: str
    secret_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(•••)"


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    access_key: str,
    secret_key: str,
    session_token: str,
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """The headers to add to a request: `authorization`, `x-amz-date`, and `x-amz-security-token` where there is one.

    `url` is the whole address as it is sent, `headers` what is sent besides; `now` has a time zone. The path, which is
    percent-encoded once on the wire, is encoded again for the signature, as every service but S3 demands.
    """
    address = urlsplit(url)
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": moment} | ({"x-amz-security-token": session_token} if session_token else {})
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed = {name: value for name, value in signed.items() if name not in _UNSIGNED} | added
    signed.setdefault("host", _host(address.scheme, address.hostname or "", address.port))
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        (
            method.upper(),
            quote(_path(address.path), safe="/~"),
            "&".join("=".join(pair) for pair in sorted(_pair(part) for part in address.query.split("&") if part)),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    key = f"AWS4{secret_key}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    added["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return added


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name, value


def _host(scheme: str, host: str, port: int | None) -> str:
    """The Host header that every HTTP client sends for this address."""
    if ":" in host:
        host = f"[{host}]"
    return host if port in (None, {"http": 80, "https": 443}.get(scheme)) else f"{host}:{port}"


def _path(path: str) -> str:
    """The path without empty, `.` and `..` segments (RFC 3986, section 5.2.4)."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments) + ("/" if segments and path.endswith("/") else "")


def find_credentials() -> Callable[[], Credentials]:
    """A function that gives the credentials of the moment: those of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, else what botocore finds (profiles, SSO, roles of a machine), refreshed before they end.

    Raises MissingExtraError where the variables are not set and botocore is not installed, InputError where there are
    no credentials or they can't be refreshed.
    """
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if access_key and secret_key:
        lasting = Credentials(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN", ""))
        return lambda: lasting
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        raise MissingExtraError(
            "AWS without the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles, SSO, roles)", "cloud"
        ) from None
    try:
        found = Session().get_credentials()
    except BotoCoreError as error:
        raise InputError(f"the AWS credentials can't be found: {error}") from None
    if found is None:
        raise InputError(
            "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run: aws configure"
        )

    def current() -> Credentials:
        try:
            frozen = found.get_frozen_credentials()
        except BotoCoreError as error:
            raise InputError(f"the AWS credentials can't be refreshed: {error}") from None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")

    return current


def signer(region: str, service: str = "bedrock") -> "Authorize":
    """How requests to AWS are proved where there is no bearer key: signed with the credentials that are found."""
    credentials = find_credentials()

    def authorize(request: HttpRequest, url: str) -> dict[str, str]:
        given = credentials()
        headers = {"content-type": "application/json", **request.headers} if request.body else request.headers
        return sign(
            request.method, url, headers, request.body,
            given.access_key, given.secret_key, given.session_token, region, service, datetime.now(UTC),
        )  # fmt: skip

    return authorize
