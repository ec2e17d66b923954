"""Replays the ONNX backend test suite through this project's gateway over HTTP.

    python -m tests.conformance.backend.replay --suite FOLDER

FOLDER is onnx/backend/test/data of the onnx 1.22.0 wheel; `make conformance` fetches it.

Publishes every model of the suite in one bulk publish, serves what was admitted, and asks each sample in JSON (where
JSON can carry it) and in binary. Exit status 0: every inferable model is right in both forms, everything else was
refused cleanly, and nothing was a 5xx.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from tests.conformance.backend.asking import ask_binary, ask_json, is_json, json_inputs
from tests.conformance.backend.suite import Case, Kind, Sample, read_suite
from tests.conformance.starting import StartedGateway, publish_all

MOST_SECONDS = 120.0
_MOST_BODY = 64 * 1024 * 1024
"""Bytes; one case has 11 MB of JSON, the gateway's default is 8 MiB."""
_MOST_EXAMPLE_ELEMENTS = 10_000


class Verdict(NamedTuple):
    """How one case ended. refusal: why it was not admitted. json, binary: samples asked that way; wrong: each fault."""

    case: Case
    refusal: str = ""
    json: int = 0
    binary: int = 0
    wrong: Sequence[str] = ()


def lay_out(cases: Sequence[Case], folder: Path) -> None:
    """The folder for the bulk publish: each model, with its first inputs as an example where JSON can say them."""
    for case in cases:
        directory = folder / case.name
        directory.mkdir(parents=True)
        shutil.copy(case.file, directory / "model.onnx")
        if case.samples and is_json(case.samples[0]):
            sample = case.samples[0]
            if sum(array.size for array in sample.inputs.values()) <= _MOST_EXAMPLE_ELEMENTS:
                (directory / "manifest.json").write_text(json.dumps({"example": json_inputs(sample)}))


def publish(folder: Path, data: Path) -> dict[str, str]:
    """One bulk publish; the refused models with their reasons."""
    done = publish_all(folder, data)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the bulk publish failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return {Path(one["path"]).name: one["error"] for one in json.loads(done.stdout)["failed"]}


def ask(case: Case, client: httpx.Client, base: str) -> Verdict:
    """Ask every sample of a served case both ways."""
    url = f"{base}/v2/models/{case.name}/infer"
    asked: Counter[str] = Counter()
    wrong: list[str] = []
    forms: Mapping[str, Callable[[httpx.Client, str, Sample], str]] = {"json": ask_json, "binary": ask_binary}
    for sample in case.samples:
        for form, how in forms.items():
            if form == "json" and not is_json(sample):
                continue
            asked[form] += 1
            if fault := how(client, url, sample):
                wrong.append(f"{form}: {fault}")
    return Verdict(case, "", asked["json"], asked["binary"], wrong)


def ask_refused(case: Case, reason: str, client: httpx.Client, base: str) -> Verdict:
    """A refused case is not there, and says so."""
    answer = client.post(f"{base}/v2/models/{case.name}/infer", json={"inputs": []})
    wrong = [] if answer.status_code == 404 else [f"{answer.status_code} for a model that was refused"]
    return Verdict(case, reason, wrong=wrong)


def faults_of(verdict: Verdict) -> list[str]:
    """What must not be. Where the engine itself differs from the suite, another value is no fault of the server."""
    if verdict.case.kind is Kind.INFER:
        return [f"refused: {verdict.refusal}"] if verdict.refusal else list(verdict.wrong)
    if verdict.case.kind is Kind.ENGINE:
        return [fault for fault in verdict.wrong if " 5" in fault[:9] or fault.startswith("5")]
    return list(verdict.wrong) if verdict.refusal else ["was admitted"]


def closing_lines(verdicts: Sequence[Verdict], seconds: Mapping[str, float]) -> list[str]:
    """What the run came to, by class."""
    lines: list[str] = []
    for kind in Kind:
        of_kind = [verdict for verdict in verdicts if verdict.case.kind is kind]
        good = sum(not faults_of(verdict) for verdict in of_kind)
        refused = sum(bool(verdict.refusal) for verdict in of_kind)
        told = "right" if kind is Kind.INFER else "refused cleanly or answered without a 5xx"
        lines.append(f"{kind:28} {good:5} of {len(of_kind):5} {told} ({refused} refused at admission)")
    samples = [(verdict.json, verdict.binary) for verdict in verdicts if verdict.case.kind is Kind.INFER]
    lines.append(
        f"inferable, samples asked      JSON {sum(j for j, _ in samples)}, binary {sum(b for _, b in samples)}"
    )
    times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    lines.append(f"backend suite                {len(verdicts):5} models in {sum(seconds.values()):.1f} s ({times})")
    return lines


def replay(suite: Path, scratch: Path) -> tuple[list[Verdict], dict[str, float]]:
    """Everything, with the time of each part in seconds."""
    seconds: dict[str, float] = {}
    began = time.monotonic()

    def note(part: str) -> None:
        seconds[part] = time.monotonic() - began - sum(seconds.values())

    cases = list(read_suite(suite))
    lay_out(cases, scratch / "models")
    note("engine alone")
    refused = publish(scratch / "models", scratch / "data")
    note("bulk publish")
    gateway = StartedGateway(scratch / "data", max_body_bytes=_MOST_BODY)
    try:
        gateway.wait_until_served(len(cases) - len(refused))
        note("start")
        with httpx.Client(timeout=30) as client:
            verdicts = [
                ask_refused(case, refused[case.name], client, gateway.url)
                if case.name in refused
                else ask(case, client, gateway.url)
                for case in cases
            ]
        note("inference")
    finally:
        gateway.stop()
    return verdicts, seconds


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True, help="onnx/backend/test/data of the onnx wheel")
    options = parser.parse_args()
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory(prefix="gateway-backend-") as scratch:
        verdicts, seconds = replay(options.suite, Path(scratch))
    faults = {verdict.case.name: found for verdict in verdicts if (found := faults_of(verdict))}
    for name, found in faults.items():
        sys.stdout.write(f"WRONG {name}: {'; '.join(found)[:400]}\n")
    sys.stdout.write("\n".join(closing_lines(verdicts, seconds)) + "\n")
    if sum(seconds.values()) > MOST_SECONDS:
        sys.stdout.write(f"slower than {MOST_SECONDS:g} s\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
