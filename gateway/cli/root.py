"""The commands put together, and the one place where an error becomes a line on stderr and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from gateway.cli import (
    alerts,
    apply,
    audit,
    experiment,
    jobs,
    journal,
    models,
    publish,
    replay,
    rollout,
    route,
    score,
    serve,
    token,
    train,
)

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

EXAMPLES = """
Examples:

  gateway serve --data gateway-data --config router_config/

  gateway publish fraud model.onnx --features amount,age --reference sample.csv

  gateway weights fraud 2=10 --reason "first look"

  gateway replay fraud --version 2 --since 7d

  gateway rollout start fraud 2

  gateway score fraud day.csv day-scored.csv

  gateway status

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the gateway could not be reached.
"""

app = typer.Typer(
    name="gateway",
    help="Serve ONNX models, watch them, retrain them and roll new versions out.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for module in (
    serve, publish, train, models, route, rollout, experiment, alerts, jobs, audit, journal, score, replay, token, apply
):  # fmt: skip
    module.add_to(app)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="gateway")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; nothing more may be written, not even at exit.
        sys.stdout = None
        sys.exit(OK)
    except Exception as error:
        code, lines = explained(error)
        if not lines:
            raise
        print("\n".join(lines), file=sys.stderr)
        sys.exit(code)


def explained(error: Exception) -> tuple[int, list[str]]:
    """The exit code and the lines for a person; no lines for an error that nobody expected."""
    from gateway.client import NotReachable, Refused
    from gateway.errors import GatewayError, InvalidConfig, RequestError

    if isinstance(error, NotReachable):
        return UNREACHABLE, [f"gateway: {error}"]
    if isinstance(error, Refused):
        places = [f"  {fault.get('pointer', '')}: {fault.get('detail', '')}" for fault in error.errors]
        refusals = [f"  {who}: {why}" for who, why in error.problem.get("refusals", {}).items()]
        shown = places if len(places) > 1 else []
        return FAILED, [f"gateway: {error}", *shown, *refusals]
    if isinstance(error, (InvalidConfig, RequestError)):
        places = [f"  {fault.pointer}: {fault.detail}" for fault in error.faults]
        return FAILED, [f"gateway: {error}", *(places if len(places) > 1 else [])]
    if isinstance(error, (GatewayError, OSError)):
        return FAILED, [f"gateway: {error}"]
    return FAILED, []
