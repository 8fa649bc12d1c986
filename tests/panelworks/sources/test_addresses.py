import ipaddress
import socket

import pytest

from panelworks.errors import PanelworksError, Rejected, Transient, UnsafeSource
from panelworks.sources.addresses import is_public, resolve


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::6810:84e5", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - an address that must be refused
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("::127.0.0.1", False),
        ("::ffff:0:7f00:1", False),
        ("fec0::1", False),
        ("64:ff9b:1:7f00:0:100:808:808", False),
        ("192.0.0.192", False),
        ("192.0.0.9", False),
        ("192.0.2.1", False),
        ("192.31.196.1", False),
        ("192.52.193.1", False),
        ("192.88.99.1", False),
        ("192.175.48.1", False),
        ("198.18.0.1", False),
        ("203.0.113.1", False),
        ("240.0.0.1", False),
        ("::ffff:192.0.0.192", False),
        ("64:ff9b::c000:c0", False),
        ("64:ff9b::808:808", True),
        ("2002:c058:6301::", False),
        ("2002:808:808::", True),
        ("100::1", False),
        ("100:0:0:1::1", False),
        ("2001::1", False),
        ("2001:20::1", False),
        ("2001:db8::1", False),
        ("2001:4860:4860::8888", True),
        ("2620:4f:8000::1", False),
        ("2620:fe::fe", True),
        ("3fff::1", False),
        ("3fff:fff:ffff::1", False),
        ("5f00::1", False),
        ("4000::1", False),
        ("fd00:ec2::254", False),
        ("2606:4700::5efe:7f00:1", False),
        ("2606:4700::200:5efe:a00:1", False),
    ],
)
def test_only_the_public_internet_is_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) == public


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0",
    ],
)
def test_loopback_in_any_spelling_is_refused(host: str) -> None:
    with pytest.raises(UnsafeSource) as caught:
        resolve(host, 443, allow_private=False)
    assert caught.value.code == "forbidden_address"


def test_private_addresses_may_be_allowed() -> None:
    assert resolve("127.0.0.1", 80, allow_private=True) == "127.0.0.1"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "exa mple.com", "-bad-.com", "a..b", "a" * 64])
def test_a_name_that_does_not_exist_is_refused(host: str) -> None:
    """Before, it was looked up again after 2, 8 and 30 s, while the page occupied its slot."""
    with pytest.raises(Rejected) as caught:
        resolve(host, 443, allow_private=False)
    assert caught.value.code == "unknown_host"


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (socket.EAI_NONAME, Rejected, "unknown_host"),
        (socket.EAI_NODATA, Rejected, "unknown_host"),
        (socket.EAI_AGAIN, Transient, "unreachable"),
        (socket.EAI_FAIL, Transient, "unreachable"),
        (socket.EAI_SYSTEM, Transient, "unreachable"),
    ],
)
def test_only_the_answer_that_there_is_no_such_name_is_final(
    number: int, kind: type[PanelworksError], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "from the test")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    with pytest.raises(kind) as caught:
        resolve("example.com", 443, allow_private=False)
    assert caught.value.code == code
