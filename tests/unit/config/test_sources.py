from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from collector.http import HttpOptions
from collector.model import RunState
from config.settings import Settings
from config.sources import AnySource, CdfSource, DataprepSource, RunStateWord, Source, TokenRequest, WetransformSource
from tests.servers.certificates import Certificates

ADAPTER: TypeAdapter[Source] = TypeAdapter(AnySource)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def cdf(**values: Any) -> CdfSource:
    auth = {"provider": "cognite", "client_id": "i", "client_secret": "s", **values.pop("auth", {})}
    made = ADAPTER.validate_python(
        {
            "platform": "cdf",
            "name": "c",
            "base_url": "https://az.cognitedata.com",
            "project": "p",
            "auth": auth,
            **values,
        }
    )
    assert isinstance(made, CdfSource)
    return made


def prep(**values: Any) -> DataprepSource:
    made = ADAPTER.validate_python({"platform": "dataprep", "name": "d", "workspace": 12345, "token": "t", **values})
    assert isinstance(made, DataprepSource)
    return made


def wetransform(**values: Any) -> WetransformSource:
    made = ADAPTER.validate_python({"platform": "wetransform", "name": "w", "tenant": "acme", "token": "t", **values})
    assert isinstance(made, WetransformSource)
    return made


@pytest.mark.parametrize(
    ("source", "namespace"),
    [
        (cdf(), "cdf://az.cognitedata.com/p"),
        (cdf(base_url="http://127.0.0.1:8080"), "cdf://127.0.0.1:8080/p"),
        (cdf(base_url="https://AZ.cognitedata.com/gateway"), "cdf://az.cognitedata.com/p"),
        (cdf(namespace="cdf"), "cdf"),
        (prep(), "dataprep://api.clouddataprep.com/12345"),
        (wetransform(), "wetransform://api.wetransform.com/acme"),
    ],
)
def test_the_namespace_comes_from_the_address(source: Source, namespace: str) -> None:
    assert source.job_namespace == namespace


@pytest.mark.parametrize(
    "namespace", ["cdf://h:8443/p", "cdf://h/9p", "12345:6", "cdf:proj", "a=b", "a;b", "a b", "é", "a:", "", "a\n"]
)
def test_a_namespace_that_marquez_would_rewrite_or_not_find_is_refused(namespace: str) -> None:
    if namespace.startswith("cdf://"):
        assert cdf(namespace=namespace).job_namespace == namespace
    else:
        with pytest.raises(ValidationError, match="Marquez would rewrite or not find"):
            cdf(namespace=namespace)


def test_a_namespace_has_at_most_255_characters() -> None:
    assert cdf(namespace="n" * 255).job_namespace == "n" * 255
    with pytest.raises(ValidationError, match="has 256 characters"):
        cdf(namespace="n" * 256)
    with pytest.raises(ValidationError, match="so set `namespace`: has 2"):
        cdf(project="p" * 240)


@pytest.mark.parametrize(
    ("auth", "request_"),
    [
        (
            {"provider": "entra", "tenant": "t"},
            ("https://login.microsoftonline.com/t/oauth2/v2.0/token", "https://az.cognitedata.com/.default", None),
        ),
        ({"provider": "cognite"}, ("https://auth.cognite.com/oauth2/token", None, None)),
        (
            {"provider": "auth0", "tenant": "x.auth0.com"},
            ("https://x.auth0.com/oauth/token", "IDENTITY user_impersonation", "https://p.fusion.cognite.com/p"),
        ),
        ({"provider": "oidc", "token_url": "https://i/t"}, ("https://i/t", None, None)),
        (
            {"provider": "entra", "token_url": "http://127.0.0.1:1/t", "scopes": ["a", "b"], "audience": "c"},
            ("http://127.0.0.1:1/t", "a b", "c"),
        ),
        (
            {"provider": "auth0", "tenant": "x", "scopes": []},
            ("https://x/oauth/token", None, "https://p.fusion.cognite.com/p"),
        ),
    ],
)
def test_a_preset_fills_in_what_is_left_out(auth: dict[str, Any], request_: tuple[str, str | None, str | None]) -> None:
    source = cdf(auth=auth)
    url, scope, audience = request_
    assert source.auth.token_request(source.base_url, source.project) == TokenRequest(
        url=url, scope=scope, audience=audience
    )


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ({"provider": "entra"}, "the provider entra needs the tenant"),
        ({"provider": "auth0"}, "the provider auth0 needs the tenant"),
        ({"provider": "oidc"}, "the provider oidc has no default address"),
        ({"client_secret_file": __file__, "client_secret": "s"}, "is larger|line break|not both"),
    ],
)
def test_a_preset_says_what_it_needs(auth: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        cdf(auth=auth)


def test_one_secret_is_enough_and_two_are_too_many(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert prep(token=None, token_file=path).credential.get() == "from-file"
    with pytest.raises(ValidationError, match="give either token or token_file, not both"):
        prep(token_file=path)
    assert wetransform().webhook_credential is None
    webhook = wetransform(webhook_secret_file=path).webhook_credential
    assert webhook
    assert webhook.get() == "from-file"


@pytest.mark.parametrize(
    ("lookback", "since"),
    [
        ("1h", NOW - timedelta(hours=1)),
        ("none", NOW),
        (None, NOW),
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2027-01-01", NOW),
    ],
)
def test_the_first_look_goes_back_as_far_as_configured(lookback: str | None, since: datetime) -> None:
    assert prep(initial_lookback=lookback).first_look(NOW) == since


def test_limits_differ_by_platform_and_can_be_switched_off() -> None:
    assert [source.requests_per_minute for source in (cdf(), wetransform(), prep())] == [None, 300, 60]
    assert prep(requests_per_minute=None).requests_per_minute is None


def test_the_http_options_are_those_of_the_client(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    authority, certificate, key = certificates.ca, certificates.client, certificates.client_key
    monkeypatch.setenv("A_PROXY", "http://me:geheim@127.0.0.1:3128")
    monkeypatch.setenv("A_KEY", "geheim")
    network = {
        "ca_file": authority,
        "client_cert_file": certificate,
        "client_key_file": key,
        "proxy": "${env:A_PROXY}",
        "headers": {"X-Key": "${env:A_KEY}", "X-Team": "data"},
    }
    source = prep(network=network, timeout="90s")
    assert HttpOptions(**source.http_options()) == HttpOptions(
        ca_file=authority,
        client_cert_file=certificate,
        client_key_file=key,
        proxy="http://me:geheim@127.0.0.1:3128",
        headers={"X-Key": "geheim", "X-Team": "data"},
        timeout=90.0,
    )
    assert "geheim" not in f"{source!r} {source.model_dump_json()}"


def test_a_client_key_needs_its_certificate() -> None:
    with pytest.raises(ValidationError, match="set client_cert_file too"):
        prep(network={"client_key_file": __file__})


def test_states_are_the_words_of_the_model() -> None:
    assert set(get_args(RunStateWord)) == set(RunState)


def test_the_customer_is_personal_and_shown_nowhere() -> None:
    source = wetransform(customer="ann@example.com")
    assert source.customer == "ann@example.com"
    assert "ann@" not in str(Settings(sources=(source,)).public())
