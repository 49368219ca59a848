"""The console: search, codebases, spaces, quality and training in a browser, as files that this package holds."""
