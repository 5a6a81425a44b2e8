"""Messages of SNS: really signed ones, and a real HTTPS server that serves the certificate."""

import re

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deployments.gateway.sns import MOST_CERTIFICATES, MOST_FETCHED, MessageType
from tests.sns_server import HOST, Signer, SnsServer
from tests.unit.deployments.gateway.senders import TOKEN, TOPIC, Body, arrived, counted, payload, post, send

CERTIFICATE = f"{HOST}/SimpleNotificationService-0123456789abcdef.pem"
NOTIFICATION, SUBSCRIPTION = payload("sns_notification"), payload("sns_subscription")


def refusal(client: TestClient, body: Body) -> tuple[int, str]:
    """Status and code of a refusal, which is counted."""
    answer = send(client, body)
    code = answer.json()["error"]["code"]
    assert counted(client, "dyeworks_requests_refused_total", reason=code) >= 1
    return answer.status_code, code


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Amazon S3 Notification", None])
def test_signed_notification_is_opened(client: TestClient, sns: SnsServer, version: str, subject: str | None) -> None:
    body = sns.signer.signed(NOTIFICATION, SignatureVersion=version, Subject=subject)
    assert [post(client, body)[1]["new"] for _ in range(3)] == [1, 0, 0]
    assert arrived() == [("adire", "by topic.png")]
    assert sns.asked == [CERTIFICATE], "the certificate is remembered"
    assert counted(client, "dyeworks_notifications_total", sender="sns", outcome="repeated") == 2


def test_subscription_of_a_listed_topic_is_confirmed(client: TestClient, sns: SnsServer) -> None:
    body = sns.signer.signed(SUBSCRIPTION)
    assert post(client, body)[1] == {"new": 0, "records": 1, "ignored": ["SubscriptionConfirmation"], "bad": []}
    path = httpx.URL(str(SUBSCRIPTION["SubscribeURL"])).raw_path.decode()
    assert sns.asked == [CERTIFICATE, f"{HOST}{path}"]


def test_unsubscription_is_not_reverted(client: TestClient, sns: SnsServer) -> None:
    assert post(client, sns.signer.signed(SUBSCRIPTION, Type="UnsubscribeConfirmation"))[0] == 200
    assert sns.asked == [CERTIFICATE]


@pytest.mark.parametrize("body", [NOTIFICATION, SUBSCRIPTION])
def test_message_of_another_topic_is_refused_and_nothing_fetched(
    client: TestClient, sns: SnsServer, body: Body
) -> None:
    topics: list[object] = ["arn:aws:sns:eu-west-1:999999999999:uploads", "", None, 7, ["a"], {}]
    for topic in topics:
        assert refusal(client, sns.signer.signed(body, TopicArn=topic)) == (403, "topic_not_allowed")
    assert sns.asked == []


def test_raw_delivery_needs_a_listed_topic(client: TestClient) -> None:
    def status(topic: object) -> int:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "x-amz-sns-rawdelivery": "true",
            "x-amz-sns-topic-arn": str(topic),
        }
        return client.post("/hooks/s3", json=payload("aws_put"), headers=headers).status_code

    assert [status(topic) for topic in (NOTIFICATION["TopicArn"], "arn:aws:sns:eu-west-1:999999999999:t")] == [202, 403]


ELSEWHERE = [
    "http://sns.eu-west-1.amazonaws.com/a.pem",
    "https://169.254.169.254/latest/meta-data/",
    "https://127.0.0.1/a.pem",
    "https://[::1]/a.pem",
    "https://example.com/sns.eu-west-1.amazonaws.com/a.pem",
    "https://sns.eu-west-1.amazonaws.com.example.com/a.pem",
    "https://sns.eu-west-1.amazonaws.com@example.com/a.pem",
    "https://user:password@sns.eu-west-1.amazonaws.com/a.pem",
    "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
    "https://example.com\\@sns.eu-west-1.amazonaws.com/a.pem",
    "https://example.com/\\sns.eu-west-1.amazonaws.com",
    "https://snsXeu-west-1.amazonaws.com/a.pem",
    "https://sns.eu-west-1.amazonaws.com.evil/a.pem",
    "https://sns.a/../b.amazonaws.com/a.pem",
    "https://sns..amazonaws.com/a.pem",
    "https://bucket.s3.amazonaws.com/a.pem",
    "https://sns.eu-west-1.amazonaws.com\n.example.com/",
    "file:///etc/passwd",
    "//sns.eu-west-1.amazonaws.com/a.pem",
    "https://[",
    "https://xn--/a.pem",
    "https://xn--a.amazonaws.com/a.pem",
    "",
    None,
    7,
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_certificate_of_another_host_is_not_fetched(client: TestClient, sns: SnsServer, url: object) -> None:
    assert refusal(client, sns.signer.signed(NOTIFICATION, SigningCertURL=url)) == (403, "host_not_allowed")
    assert sns.asked == []


@pytest.mark.parametrize("url", [url for url in ELSEWHERE if isinstance(url, str)])
def test_subscription_at_another_host_is_not_confirmed(client: TestClient, sns: SnsServer, url: str) -> None:
    assert refusal(client, sns.signer.signed(SUBSCRIPTION, SubscribeURL=url)) == (403, "host_not_allowed")
    assert sns.asked == [CERTIFICATE]


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "ap-southeast-2", "cn-north-1"])
def test_hosts_of_all_regions_are_allowed(client: TestClient, sns: SnsServer, region: str) -> None:
    host = f"sns.{region}.amazonaws.com{'.cn' * region.startswith('cn')}"
    body = sns.signer.signed(NOTIFICATION, SigningCertURL=f"https://{host}/a.pem")
    assert refusal(client, body) == (503, "sns_unavailable"), "the certificate of this server is for another region"
    assert sns.asked == []


@pytest.mark.parametrize(
    "changed",
    [
        {"Message": "{}"},
        {"Timestamp": "2027-01-01T00:00:00.000Z"},
        {"Subject": None},
        {"Signature": "AAAA"},
        {"Signature": "?"},
        {"Signature": None},
        {"SignatureVersion": "3"},
        {"SignatureVersion": "1"},
        {"Message": None},
        {"Message": 7},
    ],
)
def test_message_that_was_changed_is_refused(client: TestClient, sns: SnsServer, changed: Body) -> None:
    body = {name: value for name, value in (sns.signer.signed(NOTIFICATION) | changed).items() if value is not None}
    assert refusal(client, body) == (403, "wrong_signature")
    assert arrived() == []


def test_message_of_another_signer_is_refused(client: TestClient, sns: SnsServer) -> None:
    assert refusal(client, Signer("sns.amazonaws.com").signed(NOTIFICATION)) == (403, "wrong_signature")
    assert refusal(client, Signer("sns.amazonaws.com").signed(SUBSCRIPTION)) == (403, "wrong_signature")
    assert sns.asked == [CERTIFICATE]


def test_expired_certificate_is_refused(client: TestClient, sns: SnsServer) -> None:
    old = Signer("sns.amazonaws.com", days=-1)
    sns.body = old.pem
    assert refusal(client, old.signed(NOTIFICATION)) == (403, "wrong_signature")


@pytest.mark.parametrize("body", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_is_refused_and_forgotten(client: TestClient, sns: SnsServer, body: bytes) -> None:
    message, good, sns.body = sns.signer.signed(NOTIFICATION), sns.body, body
    assert refusal(client, message) == (403, "wrong_signature")
    sns.body = good
    assert post(client, message)[1]["new"] == 1


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (302, {"Location": f"https://{HOST}/other.pem"}, b""),
        (302, {"Location": "http://127.0.0.1/"}, b""),
        (404, {}, b""),
        (500, {}, b""),
        (200, {}, b"a" * (MOST_FETCHED + 1)),
    ],
)
def test_redirects_errors_and_long_answers_ask_for_a_retry(
    client: TestClient, sns: SnsServer, status: int, headers: dict[str, str], body: bytes
) -> None:
    sns.status, sns.headers, sns.body = status, headers, body
    answer = send(client, sns.signer.signed(NOTIFICATION))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert sns.asked == [CERTIFICATE]


def test_certificate_of_an_untrusted_authority_is_not_read(
    client: TestClient, sns: SnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert refusal(client, sns.signer.signed(NOTIFICATION)) == (503, "sns_unavailable")
    assert sns.asked == []


def test_few_certificates_are_remembered(client: TestClient, sns: SnsServer) -> None:
    urls = [f"https://{HOST}/{number}.pem" for number in range(2 * MOST_CERTIFICATES)]
    for url in urls:
        assert post(client, sns.signer.signed(NOTIFICATION, SigningCertURL=url))[0] == 202
    gateway = client.app.state.gateway  # type: ignore[attr-defined]
    assert [str(url) for url in gateway.hooks.sns.certificates] == urls[MOST_CERTIFICATES:]


def test_token_of_a_subscription_is_not_logged(
    client: TestClient, sns: SnsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    send(client, sns.signer.signed(SUBSCRIPTION))
    assert re.search(r"SubscriptionConfirmation of the topic arn:aws", caplog.text)
    assert str(SUBSCRIPTION["Token"]) not in caplog.text


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
URLS = st.sampled_from([url for url in ELSEWHERE if isinstance(url, str)]) | st.text(max_size=9).map(
    "https://{}/".format
)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    **dict.fromkeys(("Message", "MessageId", "Subject", "Timestamp", "Token", "Signature"), ODD | st.text(max_size=9)),
    **dict.fromkeys(("SigningCertURL", "SubscribeURL"), ODD | URLS),
    "SignatureVersion": ODD | st.sampled_from(["1", "2", 1, 2]),
    "TopicArn": ODD | st.just(TOPIC),
}


@given(kind=st.sampled_from([*MessageType]), body=st.fixed_dictionaries({}, optional=FIELDS), full=st.booleans())
@hypothesis_settings(
    derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_field_of_an_odd_type_causes_an_error_500(
    client: TestClient, sns: SnsServer, kind: MessageType, body: Body, full: bool
) -> None:
    usual = NOTIFICATION | SUBSCRIPTION | {"TopicArn": TOPIC} if full else {}
    answer = send(client, usual | body | {"Type": str(kind)})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert set(sns.asked) <= {CERTIFICATE}
