"""Finds modules named `sagemaker...` where nobody else has them."""

from __future__ import annotations

import importlib
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
    """A module whose names are loaded when first used, from where they live in this package."""

    def __getattr__(self, name: str) -> Any:
        home = MODULES[self.__name__].get(name)
        whole = f"{self.__name__}.{name}"
        if home is not None:
            value = getattr(importlib.import_module(home), name)
        elif whole in MODULES:
            value = importlib.import_module(whole)
        else:
            raise AttributeError(why_missing(whole))
        setattr(self, name, value)
        return value

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
    """Comes after all other finders: a `sagemaker` that is installed is found by those."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname in MODULES:
            # Every one is a package: `from sagemaker.x import y` then asks here for y, and is told why it is missing.
            return ModuleSpec(fullname, _Loader(), origin="sm-processing", is_package=True)
        ours = isinstance(sys.modules.get(fullname.rpartition(".")[0]), _Module)
        if ours:
            raise ImportError(why_missing(fullname), name=fullname)
        return None


_FINDER = _Finder()


def install() -> None:
    """Make `sagemaker.processing` and its neighbours importable from this package, where `sagemaker` is not installed.

    Once is enough; again does nothing. A name of `sagemaker` that this package does not have raises an ImportError when
    it is imported.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)


def uninstall() -> None:
    """Undo `install`: forget its modules too. What a program has imported from them stays usable."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name, module in list(sys.modules.items()):
        if isinstance(module, _Module):
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if getattr(sys.modules.get(parent), child, None) is module:
                delattr(sys.modules[parent], child)
