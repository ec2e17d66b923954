"""The policy of a model: read it, replace it."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call, tagged
from gateway.api.admin.state import find_as
from gateway.documents.imported import Imported, imported_name
from gateway.documents.parse import validate_policy
from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import ABSENT, AuditEntry, policy_name
from gateway.documents.token import Scope
from gateway.errors import Fault, InvalidConfig, RevisionConflict
from gateway.names import Revision


async def show_policy(asked: Asked) -> Response:
    """The policy with every default filled in. The header X-Policy-Source says file, api or default."""
    stored = await asked.stored(policy_name(asked.model))
    policy = read_policy(stored.body) if stored else Policy(model=asked.model)
    response = tagged(policy, stored.revision if stored else ABSENT)
    imported = await find_as(asked.ports, imported_name(asked.model), Imported)
    is_files = stored is not None and imported is not None and imported.revision == stored.revision
    response.headers["x-policy-source"] = "default" if stored is None else "file" if is_files else "api"
    return response


async def put_policy(asked: Asked) -> Response:
    """Replace the policy, at once; a rollout under way keeps its plan. `file`: the policy file it was read from."""
    model, expected = asked.model, asked.if_match()
    content = await asked.document()
    if isinstance(content, dict):
        content.setdefault("model", model)
    policy = validate_policy(content)
    if policy.model != model:
        detail = f"must be {model!r}, as in the path"
        raise InvalidConfig(f"the policy: /model {detail}", [Fault("/model", detail)])
    stored = await asked.stored(policy_name(model))
    actual = stored.revision if stored else ABSENT
    if expected != actual:
        raise RevisionConflict(policy_name(model), expected, actual)
    revision = await _put(asked, policy, expected, stored.body.decode() if stored else "")
    if file := asked.request.query_params.get("file", "")[:1000]:
        await _remember_file(asked, Imported(model=model, file=file, revision=int(revision)))
    return tagged(policy, revision)


async def _remember_file(asked: Asked, imported: Imported) -> None:
    """The policy came from a file: the next import may replace it."""
    name = imported_name(asked.model)
    stored = await asked.stored(name)
    await asked.ports.config.put(name, msgspec.json.encode(imported), stored.revision if stored else ABSENT)


async def _put(asked: Asked, policy: Policy, expected: Revision, before: str) -> Revision:
    body = policy.encode()
    entry = AuditEntry(
        actor=asked.actor,
        action="policy.put",
        subject=policy.model,
        reason=asked.reason,
        before=before,
        after=body.decode(),
    )
    return await asked.ports.config.put(policy_name(asked.model), body, expected, entry)


CALLS = (
    Call("GET", "/admin/models/{model}/policy", Scope.READ, show_policy),
    Call("PUT", "/admin/models/{model}/policy", Scope.OPERATE, put_policy),
)
