"""Turns a checkpoint into what Triton serves: ONNX or an engine, proven by a gate, in a versioned model repository."""
