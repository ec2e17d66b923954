"""Running a model: tensors, the contract at the door, loaded versions, executors, admission.

Only light values here. `session` loads the ONNX runtime; importing this package does not.
"""

from gateway.execution.contract import Prepared, prepare_records, prepare_tensors
from gateway.execution.tensors import Tensors

__all__ = ["Prepared", "Tensors", "prepare_records", "prepare_tensors"]
