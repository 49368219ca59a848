import pytest

from gateway.store.queries import load_queries, parse_queries


def test_queries_are_split_by_name_without_their_headers() -> None:
    text = "-- name: one\n-- Gives one.\nSELECT 1\n\n-- name: two\n-- Gives two.\nSELECT\n-- A comment.\n2\n"
    assert parse_queries(text, "x.sql") == {"one": "SELECT 1", "two": "SELECT\n-- A comment.\n2"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1",
        "-- name: one\nSELECT 1",
        "-- name: one\n-- Purpose.\n",
        "SELECT 0;\n-- name: one\n-- Purpose.\nSELECT 1",
        "-- name: one\n-- Purpose.\nSELECT 1\n-- name: one\n-- Purpose.\nSELECT 2",
    ],
)
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"x\.sql"):
        parse_queries(text, "x.sql")


@pytest.mark.parametrize("file_name", ["chunks.sql", "codebases.sql", "migrations.sql", "search.sql", "spaces.sql"])
def test_every_query_file_loads(file_name: str) -> None:
    assert load_queries(file_name)
