"""The table of differences names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+::[^`]+)`", (REPOSITORY / "docs" / "differences.md").read_text())))


def test_some_are_named():
    assert len(NAMED) > 20


@pytest.mark.parametrize("name", NAMED)
def test_the_test_exists(name):
    file, *path = name.partition("[")[0].split("::")
    scope: ast.AST = ast.parse((REPOSITORY / file).read_text())
    for word in path:
        scope = {node.name: node for node in scope.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}[word]
