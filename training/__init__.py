"""Learn from stored code: mine data, fine-tune encoders, evaluate them, hand a checkpoint to the export."""
