import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from unittest import mock

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.errors import InputError, MissingExtraError
from kurabe.models.codecs.base import HttpRequest
from kurabe.models.hosted.auth import authorize, find_key
from kurabe.models.hosted.sigv4 import Credentials, find_credentials, sign, signer
from kurabe.models.providers import Provider

NOW = datetime(2026, 11, 21, 8, 9, 10, tzinfo=UTC)
HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
MODEL = "/model/us.anthropic.claude-3%3A0/converse"
JSON = {"content-type": "application/json"}
BEDROCK = Provider("Bedrock", "bedrock", HOST, auth="aws", key=("AWS_BEARER_TOKEN_BEDROCK",), name="bedrock")


def theirs(
    method: str, url: str, headers: dict[str, str], body: bytes, token: str = "", region: str = "us-east-1"
) -> dict[str, str]:
    """The headers that botocore adds."""
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "secret/Key", token or None)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        botocore.auth.SigV4Auth(credentials, "bedrock", region).add_auth(request)
    added = {name.lower(): value for name, value in request.headers.items()}
    return {name: added[name] for name in ("authorization", "x-amz-date", "x-amz-security-token") if name in added}


def ours(
    method: str, url: str, headers: dict[str, str], body: bytes, token: str = "", region: str = "us-east-1"
) -> dict[str, str]:
    return sign(method, url, headers, body, "AKIDEXAMPLE", "secret/Key", token, region, "bedrock", NOW)


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "token", "region"),
    [
        ("POST", HOST + MODEL, JSON, b'{"messages":[]}', "", "us-east-1"),
        ("POST", HOST + MODEL, JSON, b'{"messages":[]}', "session+token/==", "eu-central-1"),
        ("post", HOST + "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Ax%2Fy/converse-stream", JSON, b"{}", "", "x"),
        ("GET", HOST, {}, b"", "", "us-east-1"),
        ("GET", HOST + "/", {}, b"", "", "us-east-1"),
        ("GET", HOST + "//a/./b/../c//", {}, b"", "", "us-east-1"),
        ("GET", HOST + "/../..", {}, b"", "", "us-east-1"),
        ("GET", HOST + "/ü~_-. +,;=@%20", {}, b"", "", "us-east-1"),
        ("GET", HOST + "/a?b=2&a=1&a=0&c&d=", {}, b"", "", "us-east-1"),
        ("GET", HOST + "/a?z=%20&y=a%2Fb", {}, b"", "", "us-east-1"),
        ("POST", "http://127.0.0.1:8080/x", JSON, b"\x00\xff", "", "us-east-1"),
        ("POST", "http://LOCALHOST:80/x", JSON, b"a", "", "us-east-1"),
        ("POST", "https://[::1]:443/x", JSON, b"a", "", "us-east-1"),
        ("POST", "https://[::1]:8443/x", JSON, b"a", "", "us-east-1"),
        ("POST", HOST + "/x", {"Content-Type": "  a   b ", "X-Other": "1", "Accept": "*/*"}, b"a", "", "us-east-1"),
        ("POST", HOST + "/x", {"User-Agent": "k", "traceparent": "t", "Authorization": "old"}, b"a", "", "us-east-1"),
        ("POST", HOST + "/x", {"Host": "other.example", "X-Amz-Date": "old"}, b"a", "t", "us-east-1"),
    ],
)
def test_signatures_equal_botocores(
    method: str, url: str, headers: dict[str, str], body: bytes, token: str, region: str
) -> None:
    assert ours(method, url, headers, body, token, region) == theirs(method, url, headers, body, token, region)


VISIBLE = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#&=[]")


@given(
    path=st.text(st.one_of(VISIBLE, st.sampled_from("/./%é")), max_size=30),
    query=st.lists(st.tuples(st.text(VISIBLE, max_size=5), st.text(VISIBLE, max_size=5)), max_size=4),
    body=st.binary(max_size=50),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    token=st.sampled_from(["", "FwoGZXIvYXdzEBY="]),
)
def test_any_path_query_and_body_is_signed_as_botocore_does(
    path: str, query: list[tuple[str, str]], body: bytes, value: str, token: str
) -> None:
    url = HOST + "/" + path + ("?" + "&".join("=".join(pair) for pair in query) if query else "")
    headers = JSON | {"x-some": value}
    assert ours("POST", url, headers, body, token) == theirs("POST", url, headers, body, token)


def test_the_path_is_encoded_again_and_the_time_is_utc() -> None:
    zone = timezone(timedelta(hours=5))
    rest = {"access_key": "AKID", "secret_key": "secret", "session_token": "", "region": "r", "service": "s"}
    here = sign("POST", HOST + MODEL, JSON, b"", now=NOW.astimezone(zone), **rest)
    assert here == sign("POST", HOST + MODEL, JSON, b"", now=NOW, **rest)
    assert here["x-amz-date"] == "20261121T080910Z"
    assert here != sign("POST", HOST + MODEL.replace("%3A", ":"), JSON, b"", now=NOW, **rest)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials of this machine: no variables, no files, no metadata service."""
    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    return monkeypatch


def test_variables_need_no_botocore(no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_ACCESS_KEY_ID", "AKID")
    no_aws.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    no_aws.setitem(sys.modules, "botocore.session", None)
    assert find_credentials()() == Credentials("AKID", "hush")
    no_aws.setenv("AWS_SESSION_TOKEN", "token")
    assert find_credentials()() == Credentials("AKID", "hush", "token")
    assert "hush" not in repr(find_credentials()()) + str([Credentials("a", "hush")])


def test_botocore_finds_the_rest(no_aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no AWS credentials: set AWS_ACCESS_KEY_ID"):
        find_credentials()
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id=A\naws_secret_access_key=B\n[two]\naws_access_key_id=C\n"
        "aws_secret_access_key=D\naws_session_token=E\n"
    )
    assert find_credentials()() == Credentials("A", "B")
    no_aws.setenv("AWS_PROFILE", "two")
    assert find_credentials()() == Credentials("C", "D", "E")
    no_aws.setenv("AWS_PROFILE", "three")
    with pytest.raises(InputError, match="three"):
        find_credentials()
    no_aws.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(MissingExtraError, match=r"AWS_ACCESS_KEY_ID.*kurabe\[cloud\]"):
        find_credentials()


def test_credentials_that_end_are_asked_for_each_time(no_aws: pytest.MonkeyPatch) -> None:
    class Refreshing:
        keys = iter(["one", "two"])

        def get_frozen_credentials(self) -> botocore.credentials.ReadOnlyCredentials:
            key = next(self.keys, None)
            if key is None:
                raise botocore.exceptions.CredentialRetrievalError(provider="sso", error_msg="expired")
            return botocore.credentials.ReadOnlyCredentials(key, "s", None, None)

    no_aws.setattr("botocore.session.Session.get_credentials", lambda self: Refreshing())
    current: Callable[[], Credentials] = find_credentials()
    assert [current().access_key, current().access_key] == ["one", "two"]
    with pytest.raises(InputError, match=r"can't be refreshed.*expired"):
        current()


def test_a_signer_signs_what_is_sent_or_shows_the_bearer_key(no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    no_aws.setenv("AWS_SECRET_ACCESS_KEY", "secret/Key")
    request = HttpRequest(MODEL, b"{}")
    with mock.patch("kurabe.models.hosted.sigv4.datetime") as clock:
        clock.now.return_value = NOW
        headers = signer("us-east-1")(request, HOST + MODEL)
        listing = signer("us-east-1")(HttpRequest("/models", method="GET"), HOST + "/models")
    assert headers == theirs("POST", HOST + MODEL, JSON, b"{}")
    assert listing == theirs("GET", HOST + "/models", {}, b"")
    no_aws.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key")
    shown = authorize(BEDROCK, find_key(BEDROCK), {"region": "us-east-1"})
    assert shown(request, HOST + MODEL) == {"authorization": "Bearer bedrock-key"}
