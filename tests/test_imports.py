"""The import rules: those of import-linter (pyproject.toml), and others that need more than imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def modules(folder: str | Path) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_import_rules_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("module", ["runner.__main__", "runner.contract"])
def test_importing_the_runner_loads_no_heavy_library(module):
    heavy = {"sqlmodel", "sqlalchemy", "fastapi", "boto3", "botocore", "httpx", "tenacity", "control"}
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(run.stdout.split()) == set()


HEAVY = {"boto3", "botocore", "httpx", "alembic", "rich", "yaml"}


@pytest.mark.parametrize(
    ("code", "left_out"),
    [
        ("import control.cli.main", {*HEAVY, "sqlalchemy", "fastapi", "prometheus_client", "pydantic"}),
        (
            "import control.cli.loading as c; c.load_fastapi(); import control.app, control.http.server",
            HEAVY - {"yaml"},
        ),
    ],
)
def test_a_start_loads_nothing_that_only_later_work_needs(code, left_out):
    code = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert left_out & set(run.stdout.split()) == set()


def test_the_models_of_the_tables_and_of_openapi_are_built_only_when_they_are_used():
    code = """
from control.cli.loading import load_fastapi
load_fastapi()
from fastapi.openapi.models import OpenAPI
from pydantic import BaseModel
from control.store.tables import Batch, Output
class Later(BaseModel): ...
print([each.__pydantic_complete__ for each in (OpenAPI, Batch, Output, Later)])
OpenAPI.model_validate({"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "paths": {}})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[False, False, False, True]"


def test_only_the_store_opens_writing_transactions():
    users = [path for path in modules("control") if "for_writing" in path.read_text()]
    assert {str(path.relative_to(ROOT)) for path in users} == {
        "control/store/database.py",
        "control/store/transaction.py",
    }


def test_only_the_store_assigns_a_state():
    assigned = []
    for path in modules("control"):
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in [t for whole in targets for t in getattr(whole, "elts", [whole])]:
                is_state = isinstance(target, ast.Attribute) and target.attr in ("state", "status")
                if is_state and ast.unparse(target.value) != "self":
                    assigned.append(path)
    assert {path.parent.name for path in assigned} == {"store"}


def test_pure_modules_do_not_read_the_clock():
    [names] = [rule["source_modules"] for rule in RULES if rule["name"] == "pure modules do no I/O"]
    places = [ROOT.joinpath(*name.split(".")) for name in names]
    for path in [p for place in places for p in (modules(place) if place.is_dir() else [f"{place}.py"])]:
        text = Path(path).read_text()
        assert not re.search(r"\.(now|monotonic|monotonic_ns|perf_counter|today)\(", text), path


@pytest.mark.parametrize("folder", ["tests/sim", "tests/support", "bench"])
def test_the_modules_of_a_folder_import_each_other_in_no_circle(folder):
    package = folder.replace("/", ".")
    graph = {}
    for path in modules(folder):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == package:
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
                imported.add(node.module.removeprefix(f"{package}."))
        graph[path.stem] = imported
    TopologicalSorter(graph).prepare()  # raises CycleError
