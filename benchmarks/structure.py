"""The shape of the package as numbers, and the limits that it keeps: `python benchmarks/structure.py`.

Exits with 1 where a limit is broken. A line of code is a line with a token on it that is not a comment or a docstring.

    python benchmarks/structure.py              # the subpackages, the largest files and functions, and what breaks a limit
    python benchmarks/structure.py --json       # the same as JSON
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The lowest first: a file imports from its own layer or from a lower one.
LAYERS = (
    ("errors", "arrays", "stopping", "options"),
    ("storage",),
    ("data",),
    ("fetching",),
    ("models",),
    ("strategies", "training"),
    ("engine",),
    ("results",),
    ("reports",),
    ("doctor", "sweeps"),
    ("workflows",),
    ("testing",),
    ("cli",),
    ("__main__", "__init__"),
)
SEPARATE = {"strategies", "training"}  # of the same layer, and they do not import each other
LARGEST_SUBPACKAGE = 0.20  # share of the package's code
LONGEST_FUNCTION = 60  # lines, its docstring not counted
MOST_PARAMETERS = 8  # self and cls not counted; dataclasses and click commands have as many as they have fields or options
LONGEST_FILE = 400  # lines of any kind
MOST_ANY = 40  # `Any` in the annotations of parameters and returns
MOST_UNTYPED_DICTS = 10  # `dict[str, Any]` and `Mapping[str, Any]`, anywhere
COMPILED_LOOP = "engine/kernel.py: simulate"  # numba compiles one function; cutting it would cost the arguments' packing
UNTYPED_DICTS = {"dict[str, Any]", "Mapping[str, Any]"}
NOT_THE_PACKAGE = {"tests", "docs", "benchmarks", "build", "artifacts"}


@dataclass(frozen=True)
class Function:
    """A function: where it is, its lines without the docstring, its parameters, and whether click makes its parameters."""

    place: str
    lines: int
    parameters: int
    is_command: bool


@dataclass(frozen=True)
class Source:
    """A file of the package: its path below the root, and what is measured of it."""

    path: str
    lines: int
    code_lines: int
    functions: tuple[Function, ...]
    imports: frozenset[str]
    public_names: tuple[str, ...]
    any_in_signatures: int
    untyped_dicts: int

    @property
    def subpackage(self) -> str:
        """The top-level folder, or ``(root)``."""
        first, _, rest = self.path.partition("/")
        return first if rest else "(root)"


def sources(root: Path = ROOT) -> list[Source]:
    """Return the package's own files, read and parsed."""
    folders = [each for each in root.iterdir() if each.is_dir() and each.name not in NOT_THE_PACKAGE and each.name[0] != "."]
    files = [*root.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return [read_source(path, root) for path in sorted(files)]


def read_source(path: Path, root: Path = ROOT) -> Source:
    """Return what is measured of a file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    name = path.relative_to(root).as_posix()
    functions = tuple(measure(node, name) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    public = tuple(
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    )
    return Source(
        name,
        text.count("\n"),
        code_lines(text, tree),
        functions,
        frozenset(imported_parts(tree, name)),
        public,
        any_in_signatures=any_in_signatures(tree),
        untyped_dicts=sum(ast.unparse(node) in UNTYPED_DICTS for node in ast.walk(tree) if isinstance(node, ast.Subscript)),
    )


def measure(node: ast.FunctionDef, file: str) -> Function:
    """Return a function's measures."""
    lines = node.end_lineno - node.lineno + 1 - docstring_lines(node)  # type: ignore[operator]
    given = node.args
    parameters = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    parameters = parameters[1:] if parameters[:1] in (["self"], ["cls"]) else parameters
    decorators = [ast.unparse(each) for each in node.decorator_list]
    command = any("command(" in each or "click.option" in each for each in decorators)
    return Function(f"{file}: {node.name}", lines, len(parameters), command)


def any_in_signatures(tree: ast.Module) -> int:
    """Return how often `Any` is in the annotations of parameters and returns."""
    annotations: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            given = node.args
            parameters = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
            annotations += [node.returns, *(each.annotation for each in parameters if each is not None)]
    parts = [part for each in annotations if each is not None for part in ast.walk(each)]
    return sum(isinstance(part, ast.Name) and part.id == "Any" for part in parts)


def docstring_lines(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> int:
    """Return the lines of a node's docstring, 0 without one."""
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return first.end_lineno - first.lineno + 1  # type: ignore[operator]


def code_lines(text: str, tree: ast.Module) -> int:
    """Return the lines that hold code: not blank, no comment, no docstring."""
    documentation = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and docstring_lines(node):
            first = node.body[0].lineno
            documentation |= set(range(first, first + docstring_lines(node)))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


def imported_parts(tree: ast.Module, file: str) -> Iterator[str]:
    """Yield the top-level parts of flagbt that a file imports at run time, in functions as well."""
    depth = file.count("/") + 1
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node in typing_only:
            continue
        if node.level == 0 and (node.module or "").partition(".")[0] == "flagbt":
            yield f"absolute import of {node.module}"
        elif node.level == depth and node.module:
            yield node.module.partition(".")[0]
        elif node.level == depth:
            yield from (alias.name for alias in node.names if alias.name != "__version__")


def subpackages(files: list[Source]) -> dict[str, int]:
    """Return the lines of code of each subpackage, the largest first."""
    sizes: dict[str, int] = {}
    for each in files:
        sizes[each.subpackage] = sizes.get(each.subpackage, 0) + each.code_lines
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def broken_limits(files: list[Source]) -> list[str]:
    """Return a line for everything that breaks a limit."""
    total = sum(each.code_lines for each in files)
    found = [
        f"{subpackage}: {size:,} lines of code, {size / total:.1%} of the package; at most {LARGEST_SUBPACKAGE:.0%}"
        for subpackage, size in subpackages(files).items()
        if size > LARGEST_SUBPACKAGE * total
    ]
    found += [f"{each.path}: {each.lines} lines; at most {LONGEST_FILE}" for each in files if each.lines > LONGEST_FILE]
    for function in (function for each in files for function in each.functions if function.place != COMPILED_LOOP):
        if function.lines > LONGEST_FUNCTION:
            found.append(f"{function.place}: {function.lines} lines; at most {LONGEST_FUNCTION}")
        if function.parameters > MOST_PARAMETERS and not function.is_command:
            found.append(f"{function.place}: {function.parameters} parameters; at most {MOST_PARAMETERS}")
    for (what, count), most in zip(untyped(files).items(), (MOST_ANY, MOST_UNTYPED_DICTS), strict=True):
        if count > most:
            found.append(f"{count} {what} in the package; at most {most}")
    return found + wrong_imports(files) + shared_names(files)


def untyped(files: list[Source]) -> dict[str, int]:
    """Return how often a type is not stated: where a frozen dataclass, a Protocol, JsonValue or object could stand."""
    return {
        "Any in signatures": sum(each.any_in_signatures for each in files),
        "dict[str, Any] and Mapping[str, Any]": sum(each.untyped_dicts for each in files),
    }


def shared_names(files: list[Source]) -> list[str]:
    """Return a line for every public class or function whose name another one has, scripts' ``main`` aside."""
    places: dict[str, list[str]] = {}
    for each in files:
        for name in each.public_names:
            places.setdefault(name, []).append(each.path)
    return [f"{name}: defined in {' and '.join(where)}" for name, where in places.items() if len(where) > 1 and name != "main"]


def wrong_imports(files: list[Source]) -> list[str]:
    """Return a line for every import from a higher layer, from a separate subpackage, or by an absolute name."""
    layer_of = {name: layer for layer, names in enumerate(LAYERS) for name in names}
    found = []
    for each in files:
        own = each.path.partition("/")[0].removesuffix(".py")
        for part in sorted(each.imports):
            if part not in layer_of:
                found.append(f"{each.path}: {part} is not in any layer")
            elif layer_of[part] > layer_of[own]:
                found.append(f"{each.path}: imports {part}, which is in a higher layer")
            elif part != own and {part, own} <= SEPARATE:
                found.append(f"{each.path}: imports {part}; {' and '.join(sorted(SEPARATE))} do not import each other")
    return found


def report(files: list[Source]) -> dict[str, object]:
    """Return everything that is measured, as JSON values."""
    functions = sorted((function for each in files for function in each.functions), key=lambda each: -each.lines)
    return {
        "files": len(files),
        "code_lines": sum(each.code_lines for each in files),
        "subpackages": subpackages(files),
        **untyped(files),
        "median_function_lines": statistics.median(each.lines for each in functions),
        "longest_functions": {each.place: each.lines for each in functions[:10]},
        "longest_files": {each.path: each.lines for each in sorted(files, key=lambda each: -each.lines)[:10]},
        "broken_limits": broken_limits(files),
    }


def main() -> None:
    """Print the measures, and exit with 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    as_json = parser.parse_args().json
    files = sources()
    found = report(files)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        total = sum(each.code_lines for each in files)
        print(
            f"{found['files']} files, {total:,} lines of code; a median function has {found['median_function_lines']:.0f} lines"
        )
        for subpackage, size in subpackages(files).items():
            print(f"  {subpackage:12} {size:6,}  {size / total:6.1%}")
        print("\n".join(f"{count} {what}" for what, count in untyped(files).items()))
        for title in ("longest_functions", "longest_files"):
            print(title.replace("_", " "))
            for place, lines in found[title].items():  # type: ignore[attr-defined]
                print(f"  {lines:4}  {place}")
        print("\n".join(broken_limits(files)) or "every limit is kept")
    sys.exit(bool(found["broken_limits"]))


if __name__ == "__main__":
    main()
