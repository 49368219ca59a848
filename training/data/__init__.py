"""Training data from real code: read it, find queries for it, filter, split, add hard negatives, write."""
