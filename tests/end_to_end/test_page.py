"""The status page in a real browser: it needs a token, shows what `gateway status` shows, and runs no markup."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.end_to_end.running import RunningGateway, small_model

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--disable-sync"])
        yield browser.new_page()
        browser.close()


def test_the_page_shows_models_to_those_who_have_a_token(
    start_gateway: Callable[..., RunningGateway], model_file: Path, tmp_path: Path, page: Page
) -> None:
    """A stranger sees nothing; a pasted token shows the model, and a wrong one says so."""
    gateway = start_gateway()
    gateway.publish("plain", model_file)
    gateway.wait_until_served("plain")
    second = tmp_path / "second.onnx"
    second.write_bytes(small_model(seed=1))
    gateway.publish("plain", second)
    arms = {"arms": {"2": 20}, "metric": "errors", "reason": "which?"}
    started = gateway.admin("POST", "/admin/models/plain/experiment", json=arms)
    assert started.status_code == 201, started.text
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.goto(gateway.admin_url)
    expect(page.locator("#models")).to_contain_text("Paste a token")
    page.fill("#token", "wrong")
    page.click("text=Show")
    expect(page.locator("#state")).to_contain_text("token", timeout=10_000)
    page.fill("#token", gateway.token)
    page.click("text=Show")
    expect(page.locator("#models")).to_contain_text("plain", timeout=10_000)
    expect(page.locator("#models")).to_contain_text("experiment 1 with @2 on errors: running, undecided")
    expect(page.locator("#audit")).to_contain_text("publish")
    assert errors == []
