"""Reads the meaning of each config key from the comment on its dataclass field, after it or on the lines above."""

import ast
import inspect
import io
import sys
import tokenize
from functools import cache
from types import ModuleType


def meaning_of(kind: type, key: str) -> str:
    """Returns the comment of a field, from the first class in the MRO that has one; empty if none has."""
    return next((meaning for base in kind.__mro__ if (meaning := meanings(base).get(key))), "")


@cache
def meanings(kind: type) -> dict[str, str]:
    """Returns {field: comment} of the fields that the class itself defines."""
    return commented_fields(sys.modules[kind.__module__]).get(kind.__qualname__, {})


@cache
def commented_fields(module: ModuleType) -> dict[str, dict[str, str]]:
    """Returns {class: {field: comment}} of a module; empty for a module without source, such as a prompt."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        return {}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.string.strip()]
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    code = {token.start[0] for token in tokens if token.type != tokenize.COMMENT}
    return {
        node.name: {
            field.target.id: comment_of(field, comments, code)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def comment_of(field: ast.AnnAssign, comments: dict[int, str], code: set[int]) -> str:
    """Returns the comments on the lines of a field, and on the comment-only lines above it."""
    first = field.lineno
    while first - 1 in comments and first - 1 not in code:
        first -= 1
    return " ".join(comments[line] for line in range(first, (field.end_lineno or first) + 1) if line in comments)
