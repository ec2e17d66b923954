"""What the loop is measured against: the first version for ever, and the newest label that is known.

Both answer the same rows at the same label delay as the loop does.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.demo.send import Sender
from gateway.demo.stream import Row

_ROWS_A_REQUEST = 500


async def never_retrained(rows: Sequence[Row], sender: Sender, version: int) -> float | None:
    """Accuracy of one version on all rows, asked before the stream begins; None when a request failed.

    The requests are pinned: the gateway journals them and leaves them out of every analysis.
    """
    right = 0
    for start in range(0, len(rows), _ROWS_A_REQUEST):
        part = rows[start : start + _ROWS_A_REQUEST]
        answers = await sender.predict_pinned(part, version)
        if len(answers) != len(part):
            return None
        right += sum(answer == row.label for answer, row in zip(answers, part, strict=True))
    return right / len(rows) if rows else 0.0


def last_label_accuracy(rows: Sequence[Row], first: int, delay_rows: int) -> float:
    """Accuracy on `rows[first:]` when each is answered with the newest label known then."""
    pairs = [(row.label, rows[place - delay_rows].label) for place, row in enumerate(rows) if place >= first]
    return sum(label == known for label, known in pairs) / len(pairs) if pairs else 0.0
