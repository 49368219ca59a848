"""The `duovec-export` command, one file a subcommand. Heavy imports wait until there is something to export."""
