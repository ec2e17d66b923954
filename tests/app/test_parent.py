"""The parent's one decision, and what stops a start."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import parent
from gateway.app.child import deaths_directory, running_directory
from gateway.app.parent import next_pause
from gateway.errors import NotAllowed, Unavailable
from gateway.registry.manifest import Manifest
from gateway.serving.running import Running, read_deaths
from gateway.settings import Address, Settings


@given(st.floats(0, 100), st.floats(0, 29.9))
def test_a_child_that_dies_young_waits_longer_each_time_up_to_ten_seconds(pause: float, lived: float) -> None:
    """A broken child must not eat the machine, and must come back when the cause is gone."""
    following = next_pause(pause, lived)
    assert 0.1 <= following <= 10
    assert following >= min(pause, 10)


def test_a_child_that_lived_long_comes_back_at_once() -> None:
    """An accident after hours is not a crash loop."""
    assert next_pause(10.0, 31.0) == 0.1


def test_a_second_gateway_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """Two writers of one directory would be two champions."""
    held, refused = parent._only_one(tmp_path / "run"), parent._only_one(tmp_path / "run")
    with held, pytest.raises(NotAllowed, match="another gateway runs"), refused:
        pytest.fail("the second one was let in")


def test_a_taken_address_is_named_with_its_setting(tmp_path: Path) -> None:
    """The message says which setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match=r"^admin_listen: can not listen"):
            parent.run(Settings(data=tmp_path, admin_listen=address))


def test_what_a_dead_process_was_running_is_noted_for_the_next_one(tmp_path: Path) -> None:
    """A crash at once; kills only when young processes keep dying over the same version, so that no loop is endless."""
    settings = Settings(data=tmp_path)
    watching = object.__new__(parent._Parent)
    watching._settings = settings
    marks = Running(running_directory(settings) / "w0")
    with socket.socket() as listening:
        child = parent._Child("w0", "gateway.app.serving_process", listening)

        def notes() -> list[tuple[tuple[str, int], ...]]:
            return [death.versions for _, death in read_deaths(deaths_directory(settings))]

        assert watching._note_what_ran(child, -signal.SIGSEGV, 1.0) == ""
        assert notes() == []
        marks.begin(Manifest(model="fraud", number=3))
        for lived in (1.0, 40.0, 1.0):
            assert watching._note_what_ran(child, -signal.SIGKILL, lived) == " while it ran fraud@3"
        assert notes() == []
        watching._note_what_ran(child, -signal.SIGKILL, 1.0)
        assert notes() == [(("fraud", 3),)]
        watching._note_what_ran(child, -signal.SIGSEGV, 100.0)
        assert notes() == [(("fraud", 3),)] * 2
