"""The frozen rows of a job as a Parquet file, for DuckDB, polars and pandas: features, the label, times.

`predicted_at` and `labelled_at` are UTC; rows of a file have none. pyarrow is an extra (`gateway[analytics]`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.errors import InvalidConfig
from gateway.retraining.rows.dataset import Dataset


def write_parquet(dataset: Dataset, path: Path) -> None:
    """Write all rows in the order of their predictions, with the digest as metadata. Raises InvalidConfig."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InvalidConfig("Parquet needs pyarrow: pip install 'gateway[analytics]'") from error
    described = dataset.description
    columns: dict[str, Any] = {}
    for place, name in enumerate(described.features):
        if place in dataset.texts:
            texts = dataset.texts[place]
            columns[name] = pa.array(texts.tolist(), mask=texts == "")
        else:
            columns[name] = pa.array(dataset.features[:, place], from_pandas=True)  # NaN is missing
    columns[described.label] = pa.array(dataset.labels.tolist())
    if described.has_times:
        kind = pa.timestamp("ns", tz="UTC")
        columns["predicted_at"] = pa.array(dataset.predicted_ns, type=kind)
        columns["labelled_at"] = pa.array(dataset.labelled_ns, type=kind)
    table = pa.table(columns).replace_schema_metadata({"gateway.digest": described.digest})
    pq.write_table(table, path)
