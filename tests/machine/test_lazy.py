"""A lazy module is not imported before it is used, and is then the module."""

import sys

import pytest

from vgs_mlx.machine.lazy import Lazy, loaded

NAME = "this"  # of the standard library, and nobody needs it


@pytest.fixture
def fresh():
    sys.modules.pop(NAME, None)
    yield Lazy(NAME)
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize(
    "use",
    [lambda lazy: lazy.s, loaded, vars, lambda lazy: setattr(lazy, "s", 1)],
    ids=["get", "load", "vars", "set"],
)
def test_it_is_imported_when_something_in_it_is_used(use, fresh):
    assert NAME not in sys.modules
    use(fresh)
    assert NAME in sys.modules


def test_what_is_set_in_it_is_set_in_the_module_and_can_be_put_back(fresh):
    before = loaded(fresh).s
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fresh, "s", "other")
            assert sys.modules[NAME].s == "other"
        assert sys.modules[NAME].s == fresh.s == before


def test_what_it_lacks_is_an_attribute_error(fresh):
    with pytest.raises(AttributeError, match="nonesuch"):
        fresh.nonesuch  # noqa: B018
