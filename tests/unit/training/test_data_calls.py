"""Code that calls a unit asks for it."""

from mined_sources import unit_of

from training.data.anatomy import dissect
from training.data.calls import Definitions, caller_queries
from training.data.queries import Query
from training.data.unit import Unit

_CALLED = unit_of("def load_config(path):\n    return parse(path)", path="src/config.py", symbol="load_config")
_CALLER = """def main(arguments):
    options = read_options(arguments)
    settings = load_config(options.config_path)
    settings.update(options.overrides)
    return start_server(settings, port=options.port)"""


def _queries(*units: Unit, seed: int = 0) -> dict[str, Query]:
    return caller_queries(units, {unit.key: dissect(unit) for unit in units}, Definitions(units), seed=seed)


def test_the_rows_around_a_call_ask_for_what_is_called() -> None:
    """Without the caller's header, whose name would be a query of another style; the caller is cited."""
    caller = unit_of(_CALLER, path="src/main.py", symbol="main")
    query = _queries(_CALLED, caller)[_CALLED.key]
    assert query.style == "code" and query.rows == ("src/main.py:1-5",)
    assert query.text.startswith("options = read_options(arguments)\nsettings = load_config(options.config_path)\n")
    assert "def main" not in query.text


def test_a_test_is_no_caller_and_a_call_that_may_mean_two_asks_for_neither() -> None:
    """Tests ask by their names; a namesake elsewhere may be what was meant."""
    tests = unit_of(_CALLER, path="tests/test_main.py", symbol="main")
    assert _queries(_CALLED, tests) == {}
    caller = unit_of(_CALLER, path="src/main.py", symbol="main")
    namesake = unit_of(_CALLED.content, path="src/other.py", symbol="load_config")
    assert _queries(_CALLED, namesake, caller) == {}


def test_calls_without_rows_around_them_ask_for_nothing() -> None:
    """One short row says too little."""
    caller = unit_of("def main():\n    load_config(1)", path="src/main.py", symbol="main")
    assert _queries(_CALLED, caller) == {}


def test_of_several_callers_the_seed_chooses_one() -> None:
    """The same for every order of the units, or a set would not be the same twice."""
    callers = [unit_of(_CALLER.replace("port", f"port_{n}"), path=f"src/main_{n}.py", symbol="main") for n in range(6)]
    chosen = {seed: _queries(_CALLED, *callers, seed=seed)[_CALLED.key] for seed in range(8)}
    again = {seed: _queries(*reversed(callers), _CALLED, seed=seed)[_CALLED.key] for seed in range(8)}
    assert chosen == again
    assert len({query.rows for query in chosen.values()}) > 1
