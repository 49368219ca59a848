"""`duovec-batch`: indexing by a cluster of Ray, for what one indexer would take days for. Runs at the user's."""
