"""Actor ``code-outline``: what the code blocks of a section contain.

Payload mode. Only sections with code come here; ``triage`` sees to that.
"""

import ast
import re
from typing import Any, Callable, Dict, List

from digest.text import Payload

_SQL = re.compile(
    r"\b(create\s+(?:unique\s+)?(?:table|index)(?:\s+if\s+not\s+exists)?|insert\s+into|update"
    r"|delete\s+from|select|begin|commit|rollback)\b",
    re.IGNORECASE,
)
_YAML_KEY = re.compile(r"^([A-Za-z_][\w.-]*):")
_SHELL_COMMAND = re.compile(r"(?:^|[|;&]|\$\()\s*([a-z][\w.-]*)(?![\w.=-])")
_SHELL_WORDS = {"if", "then", "else", "fi", "for", "in", "do", "done", "while", "case", "esac"}


def outline(payload: Payload) -> Payload:
    """Replaces each block of ``code`` by ``{"language", "lines", "outline"}``."""
    result = dict(payload)
    result["code"] = [describe(block["language"], block["source"]) for block in payload["code"]]
    return result


def describe(language: str, source: str) -> Dict[str, Any]:
    """The outline of one block: what it defines, calls or configures, by its language."""
    describe_source = _LANGUAGES.get(language, _plain)
    return {
        "language": language or "text",
        "lines": len(source.splitlines()),
        "outline": _unique(describe_source(source)),
    }


def _python(source: str) -> List[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return ["does not parse: {} (line {})".format(error.msg, error.lineno)]
    found = []  # type: List[str]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append("def {}({})".format(node.name, _arguments(node.args)))
        elif isinstance(node, ast.ClassDef):
            found.append("class " + node.name)
            found.extend(
                "def {}.{}({})".format(node.name, item.name, _arguments(item.args))
                for item in node.body
                if isinstance(item, ast.FunctionDef)
            )
        elif isinstance(node, ast.Import):
            found.extend("import " + alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append("import " + (node.module or "."))
        elif isinstance(node, ast.Assign):
            found.extend(
                "set " + target.id for target in node.targets if isinstance(target, ast.Name)
            )
    return found


def _arguments(arguments: ast.arguments) -> str:
    names = [argument.arg for argument in arguments.args + arguments.kwonlyargs]
    if arguments.vararg is not None:
        names.append("*" + arguments.vararg.arg)
    if arguments.kwarg is not None:
        names.append("**" + arguments.kwarg.arg)
    return ", ".join(names)


def _sql(source: str) -> List[str]:
    without_comments = re.sub(r"--[^\n]*", "", source)
    return [" ".join(match.group(1).upper().split()) for match in _SQL.finditer(without_comments)]


def _yaml(source: str) -> List[str]:
    return [match.group(1) for match in map(_YAML_KEY.match, source.splitlines()) if match]


def _shell(source: str) -> List[str]:
    found = []  # type: List[str]
    for line in source.replace("\\\n", " ").splitlines():
        text = line.strip()
        if not text.startswith("#"):
            found.extend(name for name in _SHELL_COMMAND.findall(text) if name not in _SHELL_WORDS)
    return found


def _plain(source: str) -> List[str]:
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return lines[:1]


def _unique(items: List[str]) -> List[str]:
    return list(dict.fromkeys(items))


_LANGUAGES = {
    "python": _python,
    "sql": _sql,
    "yaml": _yaml,
    "bash": _shell,
    "sh": _shell,
}  # type: Dict[str, Callable[[str], List[str]]]
