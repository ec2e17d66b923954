"""Flag, then environment, then file, then default; and a wrong value names its setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import InvalidConfig
from gateway.settings import Address, Settings, read_settings


def test_each_source_wins_over_the_next(tmp_path: Path) -> None:
    """The nearer to the person, the stronger."""
    file = tmp_path / "gateway.yaml"
    file.write_text("workers: 2\nthreads: 3\nshadow_queue: 5\n")
    environment = {"GATEWAY_WORKERS": "4", "GATEWAY_THREADS": "6", "UNRELATED": "x"}
    settings = read_settings({"workers": 8, "listen": None}, environment, file)
    assert (settings.workers, settings.threads, settings.shadow_queue) == (8, 6, 5)
    assert settings.listen == Settings().listen


def test_addresses_and_roles_are_read_from_text() -> None:
    """As flags and the environment give them."""
    settings = read_settings({"listen": "[::1]:0", "roles": "serving"}, {}, None)
    assert settings.listen == Address(host="::1", port=0)
    assert settings.listen.is_loopback
    assert str(settings.listen) == "[::1]:0"
    assert settings.roles == ("serving",)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"workers": 0}, "workers"),
        ({"listen": "nowhere"}, "listen"),
        ({"listen": "host:99999"}, "listen"),
        ({"roles": "cooking"}, "roles"),
        ({"sync_seconds": "soon"}, "sync_seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(flags: dict[str, object], named: str) -> None:
    """Not the first request."""
    with pytest.raises(InvalidConfig) as caught:
        read_settings(flags, {}, None)
    assert any(fault.pointer.startswith(named) for fault in caught.value.faults)


@pytest.mark.parametrize("text", ["[not, a, mapping]", "workers: [1", "a: b: c"])
def test_a_settings_file_that_can_not_be_read_is_named(tmp_path: Path, text: str) -> None:
    """The message leads to the file."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfig, match=r"gateway\.yaml"):
        read_settings({}, {}, file)


def test_a_missing_settings_file_is_no_error(tmp_path: Path) -> None:
    """Defaults are enough to start."""
    assert read_settings({}, {}, tmp_path / "none.yaml") == Settings()
