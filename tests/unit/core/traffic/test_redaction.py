"""Redaction on prompts as people write them, and on what must not stay in a log; the keys are made up as it runs."""

import random
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.traffic.redaction import MARGIN, MOST, redact

HARMLESS = (Path(__file__).parents[3] / "harmless_prompts.txt").read_text(encoding="utf-8").splitlines()
BASE62 = string.ascii_letters + string.digits


def drawn(count: int, letters: str = BASE62) -> str:
    """Letters drawn by chance, the same in each run, with at least three digits apart."""
    rng = random.Random(count)
    found = [rng.choice(letters) for _ in range(count)]
    for place in range(1, min(count, 12), 4):
        found[place] = str(place % 10)
    return "".join(found)


def wide(text: str) -> str:
    """In the full-width letters of East Asian keyboards."""
    return "".join(chr(ord(letter) + 0xFEE0) if letter != " " else chr(0x3000) for letter in text)


def arabic(text: str) -> str:
    """In Arabic-Indic digits."""
    return "".join(chr(0x660 + int(letter)) if letter.isdigit() else letter for letter in text)


MAILS = [
    "ada.lovelace+shop@example.co.uk",
    "ada@example",
    "me@example.com",
    "ada\uff20example.org",
    wide("ada@example.com"),
    "ada\u200b@exam\u00adple.com",
    "ade\u0301@example.com",
    "o'brien@example.ie",
    "ада@пример.рф",
    "ada@xn--e1afmkfd.xn--p1ai",
    '"ada lovelace"@example.com',
    "ada@[192.168.10.4]",
    "ada(at)example.com",
    "ada [at] example [dot] com",
    "ada @ example.com",
    "ada at example dot com",
]
PHONES = [
    "+234 803 123 4567",
    "+2348031234567",
    "+49 171/1234567",
    "+44 (0)20 7946 0958",
    "+1 (212) 555-0123",
    "+1-555-123-4567",
    "+44.2079460958",
    arabic("+234 803 123 4567"),
    wide("+49 171 1234567"),
    "+234\u200b803\u200b123\u200b4567",
    "0049 171 1234567",
    "0803-123-4567",
    "08031234567",
    "020 7946 0958",
    "06 12 34 56 78",
    "06.12.34.56.78",
    "(030) 901820",
    "(212) 555-1234",
    "555.123.4567",
    "1-800-555-0199",
]
IBANS = [
    "DE89 3704 0044 0532 0130 00",
    "de89370400440532013000",
    "GB82 WEST 1234 5698 7654 32",
    "gb82-west-1234-5698-7654-32",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NO93 8601 1117 947",
    "MT84MALT011000012345MTLCAST001S",
    wide("DE89370400440532013000"),
]
CARDS = [
    "4111 1111 1111 1111",
    "4111111111111111",
    "5555-5555-5555-4444",
    "3782 822463 10005",
    "30569309025904",
    "6011.1111.1111.1117",
    "2223 0031 2200 3222",
    arabic("4111 1111 1111 1111"),
]
KEYS = [
    "sk-" + drawn(48),
    "sk-proj-" + drawn(40),
    "sk-ant-api03-" + drawn(40) + "-" + drawn(8),
    "sk-\u200b" + drawn(48),
    "ghp_" + drawn(36),
    "gho_" + drawn(36),
    "ghs_" + drawn(36),
    "github_pat_" + drawn(22) + "_" + drawn(59),
    "glpat-" + drawn(20),
    "AKIA" + drawn(16, string.ascii_uppercase),
    "ASIA" + drawn(16, string.ascii_uppercase),
    "xoxb-" + drawn(11, string.digits) + "-" + drawn(24),
    "xoxp-" + drawn(40),
    "AIza" + drawn(35),
    "hf_" + drawn(34),
    "npm_" + drawn(36),
    "pypi-" + drawn(80),
    "SG." + drawn(22) + "." + drawn(43),
    "sk_live_" + drawn(24),
    "rk_test_" + drawn(24),
    "whsec_" + drawn(32),
    "dyw_" + drawn(32),
    "eyJ" + drawn(20) + ".eyJ" + drawn(30) + "." + drawn(43),
    "-----BEGIN PRIVATE KEY-----\n" + drawn(64) + "\n" + drawn(40) + "\n-----END PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n" + drawn(64) + "\n-----END OPENSSH PRIVATE KEY-----",
    drawn(8, string.digits) + ":" + drawn(35),
    "0x" + drawn(64, "0123456789abcdef"),
    drawn(32, "0123456789abcdef"),
    drawn(40),
]
URLS = [
    "https://ada:pa55@example.com/x",
    "postgres://dye:p/a#ss@db.example.com:5432/dyeworks",
    "redis://:secret@10.0.0.4:6379/0",
    "https://" + drawn(20) + "@github.com/dye/works.git",
    "https://example.com/a.png?token=abc",
    "https://b.s3.amazonaws.com/a.png?X-Amz-Credential=x&X-Amz-Signature=0af3",
    "https://maps.example.com/?q=lagos&key=ab12",
    "https://x.blob.example.net/c?sv=2024&sig=ab%2F",
    "https://example.com/cb#access_token=abc",
    "HTTPS://EXAMPLE.COM/?API_KEY=1",
    "https://hooks.slack.com/services/T0/B0/abc",
]
OTHERS = ["192.168.10.4", "2001:db8:0:1::17", "123-45-6789"]
SECRETS = [
    *((secret, "[email]") for secret in MAILS),
    *((secret, "[phone]") for secret in PHONES),
    *((secret, "[iban]") for secret in IBANS),
    *((secret, "[card]") for secret in CARDS),
    *((secret, "[key]") for secret in KEYS),
    *((secret, "[url]") for secret in URLS),
    *zip(OTHERS, ("[ip]", "[ip]", "[id]"), strict=True),
]
FRAMES = ["{}", "rings for {}, please", "rings ({})", "12 rings, 3 dots\n{}\non cloth", "“{}”. 1024x1024"]


def test_prompts_with_nothing_to_hide_stay() -> None:
    changed = [(prompt, redact(prompt)) for prompt in HARMLESS if redact(prompt) != prompt]
    print(f"{len(changed)} of {len(HARMLESS)} harmless prompts changed")
    assert len(set(HARMLESS)) >= 220
    assert changed == []


def test_what_is_private_is_replaced_wholly() -> None:
    wanted = [(frame.format(secret), frame.format(word)) for frame in FRAMES for secret, word in SECRETS]
    left = [(prompt, redact(prompt)) for prompt, clean in wanted if redact(prompt) != clean]
    print(f"{len(left)} of {len(wanted)} left, of {len(SECRETS)} secrets")
    assert len(SECRETS) >= 90
    assert left == []


@pytest.mark.parametrize(
    ("prompt", "clean"),
    [
        ("call me at 555-0199", "call me at [phone]"),
        ("phone: 612 345 678", "phone: [phone]"),
        ("my number is 98765 43210", "my number is [phone]"),
        ("https://wa.me/2348031234567", "https://wa.me/[phone]"),
        ("password: swordfish", "password: [key]"),
        ('password="hunter2"', 'password="[key]"'),
        ("api_key=" + drawn(20), "api_key=[key]"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfi", "aws_secret_access_key = [key]"),
        ("Authorization: Bearer " + drawn(20), "Authorization: Bearer [key]"),
        ("Authorization: Basic YWRhOmh1bnRlcg==", "Authorization: Basic [key]"),
        ("4111 1111 1111 1111 12/27", "[card] 12/27"),
        ("IBAN DE89 3704 0044 0532 0130 00 or call", "IBAN [iban] or call"),
        ("ada@example.com,bob@example.org", "[email],[email]"),
        ("https://ada:pa@example.com/?token=x ada@example.com", "[url] [email]"),
    ],
)
def test_what_follows_a_word_for_it_is_replaced(prompt: str, clean: str) -> None:
    assert redact(prompt) == clean


def test_seeds_of_any_size_stay() -> None:
    rng = random.Random(1)
    prompts = [f"rings, seed {rng.randrange(2**bits)}, 1024x768" for bits in (31, 32, 53, 64) for _ in range(300)]
    assert [prompt for prompt in prompts if redact(prompt) != prompt] == []


@pytest.mark.parametrize("number", ["4111 1111 1111 1112", "DE88 3704 0044 0532 0130 00", "9999 9999 9999 9995"])
def test_numbers_with_a_wrong_check_digit_stay(number: str) -> None:
    assert redact(number) == number


def test_redacted_prompts_stay_as_they_are() -> None:
    for secret, _ in SECRETS:
        once = redact(f"rings for {secret}, please")
        assert redact(once) == once


@given(st.text(max_size=200))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_text_is_taken(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb@example\ud800", "\0", "", " ", "\u202e12 rings", "\U000e0041"])
def test_what_is_no_text_is_taken(text: str) -> None:
    assert isinstance(redact(text), str)


@pytest.mark.parametrize(
    "unit", ["a", "a.", "a@", "4 ", "0171 ", "DE89 ", "+1 ", "eyJ", "ada at b dot ", "http://", "(0"]
)
def test_a_huge_prompt_is_read_to_its_end(unit: str) -> None:
    text = (unit * 50_000)[: MOST - 100] + " ada@example.com"
    assert redact(text).endswith(" [email]")


def test_what_is_cut_off_leaves_no_part_of_a_secret() -> None:
    for place in range(MOST - 2 * MARGIN, MOST, 7):
        text = "x" * (place - 1) + " +234 803 123 4567 ada@example.com" + " rings" * 100
        clean = redact(text)
        assert len(clean) <= MOST - MARGIN + len("[phone]")
        assert "803" not in clean
        assert "ada" not in clean
