from __future__ import annotations

import pytest

from ruleaudit.addresses import canonical_address, family_of, parse_network


@pytest.mark.parametrize(
    ("text", "family", "canonical"),
    [
        pytest.param("10.0.0.1", 4, "10.0.0.1", id="as it is"),
        pytest.param("010.000.000.001", 4, "10.0.0.1", id="leading zeros are decimal"),
        pytest.param("FD00:0:0::0A", 6, "fd00::a", id="IPv6 as RFC 5952 has it"),
        pytest.param("fd00:0:0:1:0:0:0:1", 6, "fd00:0:0:1::1", id="the longest run of zeros is cut"),
        pytest.param("::ffff:10.0.0.1", 4, "10.0.0.1", id="IPv4 mapped into IPv6 is IPv4"),
        pytest.param("::ffff:10.0.0.1", 6, None, id="and not IPv6"),
        pytest.param("::1:2", 6, "::1:2", id="no dotted tail"),
        pytest.param("10.0.0.1", 6, None, id="another family"),
        pytest.param("fd00::1", 4, None, id="another family, IPv6"),
        pytest.param("fd00::1%eth0", 6, None, id="a zone is no part of an address here"),
        pytest.param("256.0.0.1", 4, None, id="an octet too large"),
        pytest.param("10.0.0", 4, None, id="too short"),
        pytest.param("10.0.0.-1", 4, None, id="no digit"),
        pytest.param("", 4, None, id="empty"),
        pytest.param("None", 4, None, id="a word"),
        pytest.param("10.0.0.1\0", 4, None, id="NUL"),
    ],
)
def test_canonical_address(text: str, family: int, canonical: str | None) -> None:
    assert canonical_address(text, family) == canonical


@pytest.mark.parametrize(
    ("text", "family"), [("10.0.0.1", 4), ("fd00::1", 6), ("::ffff:10.0.0.1", 4), ("node-a", None), ("10.0.0.0/8", None)]
)
def test_family_of(text: str, family: int | None) -> None:
    assert family_of(text) == family


@pytest.mark.parametrize(
    ("text", "family", "network"),
    [
        ("10.1.2.3/8", 4, "10.0.0.0/8"),
        ("10.1.2.3/32", 4, "10.1.2.3/32"),
        ("0.0.0.0/0", 4, "0.0.0.0/0"),
        ("fd00::1/64", 6, "fd00::/64"),
        ("fd00::/64", 4, None),
        ("10.1.2.3", 4, None),
        ("10.1.2.3/33", 4, None),
        ("10.1.2.3/", 4, None),
        ("10.1.2.3/-1", 4, None),
        ("10.1.2.3/255.0.0.0", 4, None),
    ],
)
def test_parse_network(text: str, family: int, network: str | None) -> None:
    found = parse_network(text, family)
    assert (None if found is None else str(found)) == network
