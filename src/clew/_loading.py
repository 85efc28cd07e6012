"""From `package.module:name`, or `path/to/file.py:name`, to the object: for the command line and the service.

A file is imported under the name that an import of it would have, so that its classes are the same ones; of two files
with the same name the second one's module has its folder's name, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from clew.errors import LoadError


def load_object(target: str, base: Path | None = None) -> Any:
    """What `target` names; a file's path starts at `base` (default: the working folder).

    Raises LoadError with what is wrong; what the module itself raises passes, with a note.
    """
    place, name = split_target(target)
    try:
        module = load_file((base or Path()) / place) if place.endswith(".py") else load_module(place)
    except LoadError:
        raise
    except Exception as error:
        error.add_note(f"while {target!r} was loaded")
        raise
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            graphs = [key for key, value in vars(module).items() if is_builder(value) or is_compiled(value)]
            raise LoadError(f"module {place!r} has no {name!r}", hint=f"graphs in it: {', '.join(graphs) or 'none'}")
        found = getattr(found, part)
    return found


def split_target(target: str) -> tuple[str, str]:
    """A target's module or file, and the name in it; raises LoadError where one of them is missing."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise LoadError(f"{target!r} is not MODULE:NAME", hint="for example: my_app.graphs:chat, or chat.py:graph")
    return place, name


def load_module(name: str) -> ModuleType:
    """The module of that dotted name, in the working folder or the environment."""
    put_on_path("")  # a program's own folder is where its modules are looked for, as `python -m` does
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"there is no module {name!r} in the working folder or the environment",
                hint="give a dotted module name, or a path that ends in .py",
            ) from None
        raise


def load_file(path: Path) -> ModuleType:
    """The module in that file."""
    if not path.is_file():
        raise LoadError(f"there is no file {str(path)!r}")
    path = path.resolve()
    if (loaded := _loaded_from(path)) is not None:
        return loaded
    root, name = _package_of(path)
    put_on_path(str(path.parent))
    put_on_path(str(root))
    return _load_alone(path) if _is_taken(name, root) else load_module(name)


def put_on_path(folder: str) -> None:
    """Have imports look into `folder` first, if they do not look there yet."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def is_compiled(value: Any) -> bool:
    """Whether this is a graph that can run."""
    return hasattr(value, "astream") and hasattr(value, "get_state") and not isinstance(value, type)


def is_builder(value: Any) -> bool:
    """Whether this is a graph to compile."""
    return hasattr(value, "compile") and hasattr(value, "add_node") and not isinstance(value, type)


def _package_of(path: Path) -> tuple[Path, str]:
    """The folder that an import of the file starts from, and its dotted name from there."""
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names)


def _loaded_from(path: Path) -> ModuleType | None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if name != "__main__" and isinstance(file, str) and file.endswith(path.name) and Path(file).resolve() == path:
            return module
    return None


def _is_taken(name: str, root: Path) -> bool:
    """Whether an import of `name` would give something else than what is in `root`."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or not name.replace(".", "_").isidentifier():
        return True
    other = sys.modules.get(top)
    if other is None:
        return False
    places = [*getattr(other, "__path__", ()), getattr(other, "__file__", None) or ""]
    return not any(Path(place).resolve() in (root / top, root / f"{top}.py") for place in places if place)


def _load_alone(path: Path) -> ModuleType:
    """Load a file whose name stands for something else already."""
    parts = [*(part.replace("-", "_") for part in path.parent.parts[1:]), path.stem]
    names = ("_".join(parts[-length:]) for length in range(2, len(parts) + 1))
    name = next((name for name in names if name not in sys.modules), f"{'_'.join(parts)}_")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{str(path)!r} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
