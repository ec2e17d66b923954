"""What leaves for other systems: CloudEvents 1.0 in the structured JSON mode. Pure.

Source: CloudEvents 1.0.2, sections 3 (context attributes) and the JSON event format, section 3. The content type of
such a body is CONTENT_TYPE; (source, id) names an event, so a repeat is recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

CONTENT_TYPE = "application/cloudevents+json"


def cloud_event(*, id: str, source: str, type: str, subject: str, time: float, data: Mapping[str, Any]) -> bytes:
    """The body of one event. source: a URI reference; type: `gateway.<what>.<moment>`; time: seconds since 1970."""
    content = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "subject": subject,
        "time": datetime.fromtimestamp(time, UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }
    return msgspec.json.encode(content)
