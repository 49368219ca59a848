"""The duovec service, and what its users hold in their hands: client, command line, local stack."""
