"""The gate: proof that what will serve is the same model, and still as good."""
