"""Running a model: tensors, the contract at the door, loaded versions, executors, admission.

Importing this package loads nothing; `session` loads the ONNX runtime.
"""
