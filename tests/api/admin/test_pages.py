"""/metrics and the status page."""

from __future__ import annotations

import os
import re
from pathlib import Path

import httpx

from gateway import metrics
from gateway.api.metrics_page import MetricsPage, Processes, used_bytes
from gateway.api.status_page import FILES
from gateway.documents.lease import GatewayLease
from gateway.documents.store import gateway_name
from tests.api.admin.conftest import Office


async def test_metrics_show_counters_processes_and_disk(admin: httpx.AsyncClient, office: Office) -> None:
    metrics.feedback.inc(3)
    now = office.clock.now()
    await office.put(gateway_name("w0"), GatewayLease(id="w0", pid=os.getpid(), started=0, renewed=now))
    (office.folder / "data" / "deep").mkdir(parents=True)
    (office.folder / "data" / "deep" / "file").write_bytes(b"x" * 1234)
    answer = await admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert re.search(r"^gateway_feedback_total \d", answer.text, re.MULTILINE)
    assert re.search(r'^gateway_process_cpu_seconds_total\{process="w0"\} \d', answer.text, re.MULTILINE)
    assert re.search(r'^gateway_process_resident_memory_bytes\{process="control"\} \d', answer.text, re.MULTILINE)
    assert "gateway_disk_used_bytes 1234.0" in answer.text
    assert re.search(r"^gateway_disk_free_bytes \d", answer.text, re.MULTILINE)


async def test_a_scrape_within_a_second_is_answered_from_the_last_one(office: Office) -> None:
    """Ten scrapers must not cost ten walks over the data directory."""
    page = MetricsPage(office.ports)
    first = await page.page()
    metrics.feedback.inc()
    assert await page.page() is first
    office.clock.advance(1.5)
    assert await page.page() != first


def test_a_process_that_is_gone_is_left_out() -> None:
    families = list(Processes({"gone": 2**22 + 12345}).collect())
    assert [family.samples for family in families] == [[], []]


def test_a_directory_that_is_not_there_uses_nothing(tmp_path: Path) -> None:
    assert used_bytes(tmp_path / "none") == 0


async def test_the_page_needs_no_token_and_holds_no_inline_script(office: Office) -> None:
    """What the policy `default-src 'self'` forbids must not be in the page, or it would not work."""
    async with office.client(None) as client:
        for path in FILES:
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        page = (await client.get("/")).text
        script = (await client.get("/dashboard/page.js")).text
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\son\w+=|style=|<style", page) == []
    assert "innerHTML" not in script
    assert "localStorage" not in script
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert path in FILES
