"""Runs that were queued in the database, worked on one at a time."""
