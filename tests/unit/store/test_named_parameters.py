import pytest

from gateway.store.named_parameters import bind


def test_names_are_numbered_in_order_and_repeated() -> None:
    sql = "SELECT :key::bigint, :name::text WHERE a = :key AND b = ':x'::text"
    statement, arguments = bind(sql.replace("':x'", ":name"), {"name": "n", "key": 5, "unused": 0})
    assert statement == "SELECT $1::bigint, $2::text WHERE a = $1 AND b = $2::text"
    assert arguments == [5, "n"]


def test_a_name_without_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="missing"):
        bind("SELECT :missing", {})
