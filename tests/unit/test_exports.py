"""What `import actors` gives."""

from __future__ import annotations

import pkgutil

import actors


def test_no_module_hides_what_the_package_gives() -> None:
    """Importing a module binds its name in the package, in place of whatever has that name."""
    modules = {module.name for module in pkgutil.iter_modules(actors.__path__)}
    assert not modules & set(actors.__all__)


def test_all_that_is_named_is_there() -> None:
    assert [name for name in actors.__all__ if not hasattr(actors, name)] == []
