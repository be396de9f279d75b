"""Import hook for modules named `sagemaker...` that no installed `sagemaker` has."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from processing.compat.modules import ALIASES, MODULES, PARENTS, VERSION, explain_missing
from processing.compat.spark_modules import ROOT as _SPARK_ROOT
from processing.compat.spark_modules import SPARK_MODULES

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = "sagemaker"
ORIGIN = "sm-processing"
"""The origin of this package's modules in their specs."""

_ALL_MODULES = {**MODULES, **SPARK_MODULES}


class _Module(ModuleType):
    """A module that loads its names from this package when they are first used."""

    def __getattr__(self, name: str) -> Any:
        home = _ALL_MODULES[self.__name__].get(name)
        full_name = f"{self.__name__}.{name}"
        if home is not None:
            return getattr(importlib.import_module(home), name)
        full_name = ALIASES.get(self.__name__, {}).get(name, full_name)
        if full_name in _ALL_MODULES:
            return importlib.import_module(full_name)
        raise AttributeError(explain_missing(full_name))

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system makes a submodule an attribute of its parent. A class of the same name has precedence.
        if not (isinstance(value, _Module) and name in _ALL_MODULES[self.__name__]):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_ALL_MODULES[self.__name__], *ALIASES.get(self.__name__, ())})


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name, f"The names of `{spec.name}` that sm-processing has.")

    def exec_module(self, module: ModuleType) -> None:
        inner = {name.removeprefix(f"{module.__name__}.") for name in _ALL_MODULES}
        modules = sorted(name for name in inner if name.isidentifier() and f"{module.__name__}.{name}" in _ALL_MODULES)
        module.__all__ = list(_ALL_MODULES[module.__name__]) or modules  # type: ignore[attr-defined]  # for `import *`
        if module.__name__ == _ROOT:
            module.__version__ = VERSION  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    """A finder that runs before all others. If they find a `sagemaker` 2.x, all imports use that one.

    `sagemaker` 3.x and its core have none of these names. If one of them is installed, `sagemaker` itself and these
    names come from this package. The `__path__` of `sagemaker` includes the installed package, so that `sagemaker.core`
    can be imported too.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] == _SPARK_ROOT:
            return _find_spark_module(fullname, path, target)
        if fullname == _ROOT:
            found = _find_installed(fullname, path, target)
            folders = [] if found is None else list(found.submodule_search_locations or ())
            return found if _is_version_2(folders) else _module_spec(fullname, folders)
        if not fullname.startswith(f"{_ROOT}.") or not isinstance(sys.modules.get(_ROOT), _Module):
            return None
        if fullname in MODULES and fullname not in PARENTS:
            return _module_spec(fullname, [])
        found = _find_installed(fullname, path, target)
        if found is None and fullname in PARENTS:
            return _module_spec(fullname, [])
        if found is None:
            raise ImportError(explain_missing(fullname), name=fullname)
        return found


_FINDER = _Finder()


def install() -> None:
    """Make `sagemaker.processing` and its neighbours importable from this package, if `sagemaker` 2.x is not installed.

    A second call does nothing. Importing a name of `sagemaker` that neither this package nor an installed `sagemaker`
    has raises an ImportError.
    """
    if _FINDER in sys.meta_path:
        return
    sys.meta_path.insert(0, _FINDER)
    loaded = sys.modules.get(_ROOT)
    if type(loaded) is ModuleType and not _is_version_2(list(getattr(loaded, "__path__", ()))):
        loaded.__class__ = _Module  # the program has already imported this module


def uninstall() -> None:
    """Undo `install` and remove its modules. Names that a program has imported from them stay usable."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name, module in list(sys.modules.items()):
        if not isinstance(module, _Module):
            continue
        # A module of another loader was imported before `install`.
        if not isinstance(module.__loader__, _Loader):
            module.__class__ = ModuleType  # type: ignore[assignment]
            continue
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if vars(sys.modules.get(parent, module)).get(child) is module:
            delattr(sys.modules[parent], child)


def _find_installed(fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is _FINDER:
            continue
        try:
            found = finder.find_spec(fullname, path, target)
        except ImportError:  # 3.x raises it for the names of 2.x
            continue
        if found is not None:
            return found
    return None


def _find_spark_module(fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """Find a module of `sagemaker_pyspark`: the installed one, if there is one, else that of this package."""
    if fullname == _SPARK_ROOT:
        return _find_installed(fullname, path, target) or _module_spec(fullname, [])
    if not isinstance(sys.modules.get(_SPARK_ROOT), _Module):
        return None
    if fullname in SPARK_MODULES:
        return _module_spec(fullname, [])
    raise ImportError(explain_missing(fullname), name=fullname)


def _is_version_2(folders: Sequence[str]) -> bool:
    """Return True if the folders contain a `sagemaker` that has the names of this package itself."""
    return any(module.name == "processing" for module in pkgutil.iter_modules(folders))


def _module_spec(fullname: str, folders: list[str]) -> ModuleSpec:
    # Every module is a package, so that `from sagemaker.x import y` asks this finder for y and gets an explanation.
    spec = ModuleSpec(fullname, _Loader(), origin=ORIGIN, is_package=True)
    spec.submodule_search_locations = list(pkgutil.extend_path(folders, fullname)) if folders else []
    return spec
