"""The fixture lan, in test runs of their own."""

import struct
from pathlib import Path

import pytest
from frames import frame

from shmlan.pytest_plugin import Lan

FAILS = """
def test_it_fails(lan):
    lan.station().send_burst([bytes([n]) * 60 for n in range(1, 8)])
    assert False, "as it should"
"""


def frames_of(pcap: Path) -> list[bytes]:
    data = pcap.read_bytes()
    assert struct.unpack("=IHH", data[:8]) == (0xA1B2C3D4, 2, 4)
    assert struct.unpack("=I", data[20:24]) == (1,)
    frames, at = [], 24
    while at < len(data):
        seconds, micros, length, whole = struct.unpack("=IIII", data[at : at + 16])
        assert seconds > 1_000_000_000 and micros < 1_000_000 and length == whole
        frames.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return frames


def test_hosts_are_pinged(lan: Lan, busctl: str) -> None:
    host = lan.host("10.0.0.1/24", "fd00::1/64", name="web")
    assert [member.name for member in lan.bus.members()] == ["web"]
    assert lan.ping("10.0.0.1", source="10.0.0.2/24", count=3)
    assert lan.ping("fd00::1", source="fd00::2/64")
    host.stop()
    assert not lan.ping("10.0.0.1", source="10.0.0.2/24")


def test_a_host_that_cannot_start_says_why(lan: Lan, busctl: str) -> None:
    with pytest.raises(RuntimeError, match="nonsense"):
        lan.host("nonsense")
    lan.host("10.0.0.1/24")
    with pytest.raises(RuntimeError, match="the address is taken"):
        lan.host("10.0.0.1/24")
    with pytest.raises(RuntimeError, match="busctl: "):
        lan.ping("nonsense", source="10.0.0.2/24")


def test_a_missing_busctl_says_what_to_do(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUSCTL", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="install it, or set BUSCTL"):
        lan.host("10.0.0.1/24")


def test_the_frames_of_a_failed_test_are_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILS)
    result = pytester.runpytest_subprocess("--basetemp", "kept")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured lan*", "7 frames in *lan.pcap"])
    (pcap,) = (pytester.path / "kept").rglob("lan.pcap")
    assert frames_of(pcap) == [bytes([n]) * 60 for n in range(1, 8)]


def test_captures_go_where_the_option_says(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=FAILS)
    pytester.runpytest_subprocess("--lan-captures", "captures/of lans").assert_outcomes(failed=1)
    (pcap,) = (pytester.path / "captures/of lans").iterdir()
    assert pcap.name.endswith("test_one.py_test_it_fails.pcap")
    assert len(frames_of(pcap)) == 7


def test_a_test_that_passes_keeps_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(lan): lan.station().send(bytes([255] * 60))")
    pytester.runpytest_subprocess("--basetemp", "kept").assert_outcomes(passed=1)
    assert list((pytester.path / "kept").rglob("*.pcap")) == []


def test_a_bus_that_the_test_broke_does_not_hide_its_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(lan):
            lan.path.write_bytes(b"broken")
            assert False, "as it should"
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*as it should*", "no capture: *is not a bus*"])


def test_a_capture_is_what_the_bus_has(lan: Lan, tmp_path: Path) -> None:
    sent = [frame(number, 14 + number) for number in range(1_000)]
    lan.station().send_burst(sent)
    assert lan.capture(tmp_path / "out.pcap") == 1_000
    assert frames_of(tmp_path / "out.pcap") == sent
