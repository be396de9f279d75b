"""Finds modules named `sagemaker...` where no installed `sagemaker` has them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from processing.compat.modules import MODULES, VERSION, why_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = "sagemaker"


class _Module(ModuleType):
    """A module whose names are found when they are used, where they live in this package."""

    def __getattr__(self, name: str) -> Any:
        home = MODULES[self.__name__].get(name)
        whole = f"{self.__name__}.{name}"
        if home is not None:
            return getattr(importlib.import_module(home), name)
        if whole in MODULES:
            return importlib.import_module(whole)
        raise AttributeError(why_missing(whole))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *MODULES[self.__name__]})


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name, f"The names of `{spec.name}` 2.x that sm-processing has.")

    def exec_module(self, module: ModuleType) -> None:
        module.__all__ = list(MODULES[module.__name__])  # type: ignore[attr-defined]  # what a star imports
        if module.__name__ == _ROOT:
            module.__version__ = VERSION  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    """Comes before all other finders. A `sagemaker` 2.x that they find is imported as a whole.

    3.x, or its core alone, has none of these names. Beside it they are ours, `sagemaker` itself too: its `__path__`
    leads to what is installed, so that `sagemaker.core` is there as well.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _ROOT:
            found = _found_by_others(fullname, path, target)
            places = [] if found is None else list(found.submodule_search_locations or ())
            return found if _is_version_2(places) else _spec(fullname, places)
        if not fullname.startswith(f"{_ROOT}.") or not isinstance(sys.modules.get(_ROOT), _Module):
            return None
        if fullname in MODULES:
            return _spec(fullname, [])
        found = _found_by_others(fullname, path, target)
        if found is None:
            raise ImportError(why_missing(fullname), name=fullname)
        return found


_FINDER = _Finder()


def install() -> None:
    """Make `sagemaker.processing` and its neighbours importable from this package, where `sagemaker` 2.x is not there.

    Once is enough; again does nothing. A name of `sagemaker` that neither this package nor an installed `sagemaker` has
    raises an ImportError when it is imported.
    """
    if _FINDER in sys.meta_path:
        return
    sys.meta_path.insert(0, _FINDER)
    loaded = sys.modules.get(_ROOT)
    if type(loaded) is ModuleType and not _is_version_2(list(getattr(loaded, "__path__", ()))):
        loaded.__class__ = _Module  # the one that the program has imported already


def uninstall() -> None:
    """Undo `install`: forget its modules too. What a program has imported from them stays usable."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name, module in list(sys.modules.items()):
        if not isinstance(module, _Module):
            continue
        if not isinstance(module.__loader__, _Loader):  # somebody else's, that was loaded before
            module.__class__ = ModuleType  # type: ignore[assignment]
            continue
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if vars(sys.modules.get(parent, module)).get(child) is module:
            delattr(sys.modules[parent], child)


def _found_by_others(fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is _FINDER:
            continue
        try:
            found = finder.find_spec(fullname, path, target)
        except ImportError:  # so says 3.x of what 2.x had
            continue
        if found is not None:
            return found
    return None


def _is_version_2(places: Sequence[str]) -> bool:
    """Say whether the folders are those of a `sagemaker` that has itself what this package would offer."""
    return any(module.name == "processing" for module in pkgutil.iter_modules(places))


def _spec(fullname: str, places: list[str]) -> ModuleSpec:
    # Every one is a package: `from sagemaker.x import y` then asks here for y, and is told why it is missing.
    spec = ModuleSpec(fullname, _Loader(), origin="sm-processing", is_package=True)
    spec.submodule_search_locations = list(pkgutil.extend_path(places, fullname)) if places else []
    return spec
