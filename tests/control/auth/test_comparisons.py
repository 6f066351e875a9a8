"""Secrets are compared in a time that does not depend on them: by `compare_digest` alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
SECRET = re.compile(r"(^|_)(token|ticket|mac|password|passphrase|stamp|secret|signature|given)$")
BY_VALUE = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def named(node: ast.expr) -> str:
    """Return the last name of an expression: of `a.token`, `token()` and `token[0]` it is `token`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner) | ast.Attribute(value=inner):
            return named(inner)
    return ""


def leaky(source: str) -> Iterator[str]:
    """Yield each comparison in which a secret takes part by its value."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare) or not any(isinstance(each, BY_VALUE) for each in node.ops):
            continue
        if any(SECRET.search(named(each)) for each in (node.left, *node.comparators)):
            yield ast.unparse(node)


def test_no_secret_is_compared_by_its_value():
    files = [path for folder in ("control", "infra", "runner") for path in (ROOT / folder).rglob("*.py")]
    found = {f"{path.relative_to(ROOT)}: {each}" for path in files for each in leaky(path.read_text())}
    assert found == set()
    assert sum("compare_digest(" in path.read_text() for path in files) >= 2


def test_a_comparison_by_value_would_be_found():
    source = "if token == other or a.secret != b or mac(x) in known or known[0] == ticket[1]: pass"
    assert len(list(leaky(source))) == 4
    assert list(leaky("if token is None or tokens == 3 or compare_digest(token, other): pass")) == []
