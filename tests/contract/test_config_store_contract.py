"""The promises of `gateway.documents.store.ConfigStore`, one test each."""

from __future__ import annotations

import asyncio

import pytest

from gateway.documents.chain import Chain, verify
from gateway.documents.store import ABSENT, AuditEntry
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.names import Revision
from gateway.stores import Stores


async def test_what_was_put_is_got(stores: Stores) -> None:
    """Body and revision belong together."""
    first = await stores.config.put("routes/a", b"1", ABSENT)
    assert await stores.config.get("routes/a") == (b"1", first)
    second = await stores.config.put("routes/a", b"2", first)
    assert await stores.config.get("routes/a") == (b"2", second)


async def test_an_unknown_document_is_an_error_that_names_it(stores: Stores) -> None:
    """Callers tell absent from empty."""
    with pytest.raises(DocumentNotFound, match="routes/a"):
        await stores.config.get("routes/a")


@pytest.mark.parametrize("expected", [0, 999])
async def test_a_stale_revision_writes_nothing(stores: Stores, expected: int) -> None:
    """Promise 1, alone."""
    first = await stores.config.put("routes/a", b"1", ABSENT)
    entry = AuditEntry(actor="me", action="put", subject="a")
    with pytest.raises(RevisionConflict) as conflict:
        await stores.config.put("routes/a", b"2", Revision(expected), entry)
    assert (conflict.value.expected, conflict.value.actual) == (expected, first)
    assert await stores.config.get("routes/a") == (b"1", first)
    assert await stores.config.audit(0, 10) == []


async def test_a_document_that_must_exist_is_not_made(stores: Stores) -> None:
    """Only revision 0 creates."""
    with pytest.raises(RevisionConflict):
        await stores.config.put("routes/a", b"1", Revision(1))
    assert await stores.config.list("") == []


async def test_of_concurrent_writers_exactly_one_wins(stores: Stores) -> None:
    """Promise 1, together."""
    first = await stores.config.put("routes/a", b"0", ABSENT)
    puts = [stores.config.put("routes/a", b"%d" % number, first) for number in range(8)]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    won = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert all(isinstance(outcome, RevisionConflict | int) for outcome in outcomes)
    assert (await stores.config.get("routes/a")).body == b"%d" % won[0]


async def test_revisions_grow_over_all_documents(stores: Stores) -> None:
    """Promise 3: a revision names one state of the whole store."""
    revisions = [await stores.config.put(f"routes/{name}", b"", ABSENT) for name in "abc"]
    revisions.append(await stores.config.put("routes/a", b"", revisions[0]))
    assert revisions == sorted(set(revisions))
    assert revisions[0] > 0


async def test_names_are_listed_by_prefix_in_order(stores: Stores) -> None:
    """A prefix is text, not a pattern."""
    for name in ("routes/b", "routes/a", "routes_c", "rollouts/a", "routes/a%"):
        await stores.config.put(name, b"", ABSENT)
    assert await stores.config.list("routes/") == ["routes/a", "routes/a%", "routes/b"]
    assert await stores.config.list("routes/a%") == ["routes/a%"]
    assert len(await stores.config.list("")) == 5


async def test_the_audit_entry_comes_with_the_change(stores: Stores) -> None:
    """Promise 2, without a kill: number and time are the store's."""
    entry = AuditEntry(actor="ann", action="weights", subject="a", reason="why", before="0", after="5")
    revision = await stores.config.put("routes/a", b"1", ABSENT, entry)
    await stores.config.put("routes/a", b"2", revision)
    await stores.config.put("routes/b", b"1", ABSENT, AuditEntry(actor="bob", action="put", subject="b"))
    first, second = await stores.config.audit(0, 10)
    assert (first.actor, first.action, first.subject, first.reason, first.before, first.after) == (
        "ann", "weights", "a", "why", "0", "5",
    )  # fmt: skip
    assert first.time > 0
    assert second.number > first.number
    assert await stores.config.audit(first.number, 10) == [second]
    assert await stores.config.audit(0, 1) == [first]


async def test_audit_entries_are_one_chain(stores: Stores) -> None:
    """Promise 2: numbered without gaps from 1, each bound to the one before; lost races leave no trace."""
    entries = [AuditEntry(actor="ann", action="put", subject="a", reason=f"because \u00fc{n}") for n in range(5)]
    for number, entry in enumerate(entries):
        await stores.config.put(f"routes/{number}", b"1", ABSENT, entry)
        with pytest.raises(RevisionConflict):
            await stores.config.put(f"routes/{number}", b"2", ABSENT, entry)
    stored = await stores.config.audit(0, 100)
    assert [entry.number for entry in stored] == [1, 2, 3, 4, 5]
    chain = Chain()
    assert chain.add(stored) is None
    assert (chain.started, chain.checked, chain.head) == (1, 5, stored[-1].hash)


async def test_concurrent_writers_keep_one_chain(stores: Stores) -> None:
    """Two hashes over the same entry would be a fork."""
    entry = AuditEntry(actor="ann", action="put", subject="a")
    await asyncio.gather(*[stores.config.put(f"routes/{n}", b"1", ABSENT, entry) for n in range(20)])
    stored = await stores.config.audit(0, 100)
    assert len(stored) == 20
    assert verify(stored) is None


async def test_a_watcher_hears_of_changes_under_its_prefix(stores: Stores) -> None:
    """Promise 5: everything since the call, also what changed before the first look."""
    await stores.config.put("routes/old", b"", ABSENT)
    watching = stores.config.watch("routes/")
    first = await stores.config.put("routes/a", b"1", ABSENT)
    assert await asyncio.wait_for(anext(watching), 5) == "routes/a"
    await stores.config.put("rollouts/a", b"1", ABSENT)
    await stores.config.put("routes/a", b"2", first)
    assert await asyncio.wait_for(anext(watching), 5) == "routes/a"
    await stores.config.put("routes/b", b"1", ABSENT)
    heard = await asyncio.wait_for(anext(watching), 5)
    while heard != "routes/b":
        assert heard == "routes/a"
        heard = await asyncio.wait_for(anext(watching), 5)
