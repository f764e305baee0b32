"""Modules that are imported when they are first used, so that a command can print, or refuse, before that."""

import importlib
from types import ModuleType
from typing import Any


class Lazy:
    """Stands for the module `name`, which is imported when an attribute of it is first read or set."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str) -> Any:
        return getattr(loaded(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(loaded(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(loaded(self), name)

    @property
    def __dict__(self) -> dict[str, Any]:
        return vars(loaded(self))


def loaded(lazy: Lazy) -> ModuleType:
    """The module itself."""
    return importlib.import_module(object.__getattribute__(lazy, "_name"))
