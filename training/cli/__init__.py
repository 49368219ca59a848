"""The `duovec-train` command."""
