"""Turns a checkpoint into what Triton serves: ONNX, a parity report and a versioned model repository."""
