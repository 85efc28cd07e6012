"""What the source may not do at all: unpickle, import by a name from outside, or build statements from texts."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "clew"

UNSAFE_MODULES = frozenset(
    "pickle cPickle _pickle marshal shelve dill cloudpickle joblib jsonpickle yaml code codeop copyreg xmlrpc".split()
)
# Where something is called that runs or imports what a text says, and who wrote that text.
ALLOWED_CALLS = {
    ("cli/_serve.py", "import_module"): "a constant: clew.server",
    ("serde/known.py", "eval"): "an annotation in the source of a graph's own schema",
    ("serde/arrays.py", "import_module"): "a constant: numpy",
    ("store/sqlite/_vector_search.py", "import_module"): "a constant: sqlite_vec",
    ("_loading.py", "import_module"): "what a command line or a configuration file names",
    ("testing/_kit.py", "import_module"): "what a conformance kit's author wrote",
}
RUNNING = frozenset(("eval", "exec", "compile", "__import__", "import_module", "system", "popen"))
# Statements that are not constants, and what their changing parts are.
ALLOWED_STATEMENTS = {
    ("server/work/signals.py", 'listen "'): "the channel's name, made of a digest",
    ("storage/sqlite.py", "pragma busy_timeout = "): "a whole number",
    ("storage/sqlite.py", "pragma synchronous = "): "one of two words, checked when the saver is made",
    ("store/_sqlite.py", "pragma busy_timeout = "): "a whole number",
    ("storage/postgres/connections.py", "select "): "as many placeholders as there are settings",
}


@cache
def modules() -> dict[str, ast.Module]:
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}


@cache
def every_node() -> dict[type[ast.AST], list[tuple[str, Any]]]:
    found: dict[type[ast.AST], list[tuple[str, Any]]] = {}
    for name, tree in modules().items():
        for node in ast.walk(tree):
            found.setdefault(type(node), []).append((name, node))
    return found


def nodes(kind: type[ast.AST]) -> list[tuple[str, Any]]:
    """Every node of a kind, with the module it is in."""
    return every_node()[kind]


def called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def test_nothing_imports_what_runs_code_when_it_reads() -> None:
    found: set[tuple[str, str]] = set()
    for name, node in nodes(ast.Import):
        found |= {(name, alias.name) for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES}
    for name, node in nodes(ast.ImportFrom):
        if (node.module or "").split(".")[0] in UNSAFE_MODULES:
            found.add((name, node.module or ""))

    assert found == set()


def test_only_named_places_run_or_import_what_a_text_says() -> None:
    found: set[tuple[str, str]] = set()
    for name, node in nodes(ast.Call):
        is_method = isinstance(node.func, ast.Attribute) and not (
            isinstance(node.func.value, ast.Name) and node.func.value.id in ("importlib", "os", "builtins")
        )
        if called(node) in RUNNING and not is_method:  # `re.compile`, `builder.compile`
            found.add((name, called(node)))

    assert found == set(ALLOWED_CALLS)


def statement_parts(node: ast.expr) -> tuple[str, bool]:
    """What a statement begins with, and whether it is built from parts."""
    match node:
        case ast.JoinedStr(values=[ast.Constant(value=str(first)), *_]):
            return first, True
        case ast.JoinedStr() | ast.BinOp():
            return "", True
        case ast.Call(func=ast.Attribute(attr="format")):
            return "", True
        case ast.Call(func=ast.Attribute(value=inner, attr="encode")):
            return statement_parts(inner)
        case _:
            return "", False


def test_statements_are_not_built_from_texts() -> None:
    """GHSA-9rwj-6rc7-p77c and its like: a statement is a constant or a named query, and all else is bound."""
    found: set[tuple[str, str]] = set()
    for name, node in nodes(ast.Call):
        if called(node) in ("execute", "executemany", "executescript") and node.args:
            start, is_built = statement_parts(node.args[0])
            if is_built:
                found.add((name, start))

    assert found == set(ALLOWED_STATEMENTS)


WORDS = {"", "now", "pending", "running", "created_at", "updated_at", "state_updated_at", "status", "thread_id", "busy"}
WORDS |= {"object", "array", "integer", "real", "string", "number", " "}  # types of JSON values
WORDS |= {"rollback"}  # how a run is cancelled


def test_named_queries_bind_everything() -> None:
    """No query holds a quoted value that could have come from outside, and every query names its tenant."""
    for path in SOURCE.rglob("sql/*.sql"):
        for part in path.read_text().split("-- name: ")[1:]:
            name, _, body = part.partition("\n")
            text = "\n".join(line for line in body.splitlines() if not line.startswith("--"))
            quoted = [word for word in text.split("'")[1::2] if word not in WORDS and not word.endswith("ff" * 17)]
            assert quoted == [], (path.name, name)
            # A worker of the service holds runs of every tenant.
            assert "tenant" in text or name.strip() in ("now", "run_renew", "run_release", "run_counts"), (
                path.name,
                name,
            )


def test_reading_every_stored_type_imports_only_what_is_ours() -> None:
    """`importlib`'s functions are reachable from the codec's modules through constants alone."""
    for name in ("serde/codec.py", "serde/registry.py", "serde/rules.py", "serde/standard.py", "serde/own.py"):
        calls = {called(node) for node in ast.walk(modules()[name]) if isinstance(node, ast.Call)}
        assert not calls & {"import_module", "__import__", "eval", "exec"}, name
