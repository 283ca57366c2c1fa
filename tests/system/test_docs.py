"""The docs: their examples run, the names in them exist, and their lists are complete."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest
from installed_package import install

from flagbt.cli.main import cli
from flagbt.data.features import DEFAULT
from flagbt.data.features import ENTRY_POINT_GROUP as FEATURES_GROUP
from flagbt.doctor.registry import GROUP as CHECKS_GROUP
from flagbt.models.checkpoint import BUNDLED
from flagbt.models.registry import GROUP as MODELS_GROUP
from flagbt.results.metric import GROUP as METRICS_GROUP
from flagbt.strategies.registry import GROUP as STRATEGIES_GROUP

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
WITH_README = [*PAGES, ROOT / "README.md"]
FOLDERS = [path.parent for path in sorted(ROOT.glob("*/__init__.py"))]  # the subpackages
SOURCES = [*sorted(ROOT.glob("*.py")), *(path for folder in FOLDERS for path in sorted(folder.rglob("*.py")))]
BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
DIGEST = re.compile(r"[0-9a-f]{12,64}")
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
FILE_NAME = re.compile(r"[\w./-]*\w\.(?:py|md|json|parquet|csv|html|png|safetensors|cfg|toml|txt|ini|gz)")
NOT_YET = "## What is not there yet"


def page(name: str) -> str:
    """Return the text of a page in docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def script(name: str) -> ModuleType:
    """Import a script of docs/ by its path."""
    source = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (language, file name or empty, code) of every fenced block."""
    for found in BLOCK.finditer(text):
        yield found[1], found[2] or "", found[3]


def spans(text: str) -> list[str]:
    """Return every inline code span of a page's prose."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def table_after(text: str, mark: str) -> list[list[str]]:
    """Return the rows (without the head) of the table between ``<!-- mark -->`` and ``<!-- end -->``."""
    part = text.partition(f"<!-- {mark} -->")[2].partition("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in part.splitlines() if line.startswith("|")]
    assert rows, f"there is no table marked '{mark}'"
    return rows[2:]


@cache
def source_text() -> str:
    """Return all of the package's own code and the build files, as one text."""
    others = [ROOT / name for name in ("setup.cfg", "Makefile", "ruff.toml")]
    return "\n".join(path.read_text(encoding="utf-8") for path in (*SOURCES, *others))


@cache
def names_in_code() -> set[str]:
    """Return ``module.name`` and ``Class.member`` for everything defined in the package, modules with and without folder."""
    found = set()
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules = {".".join(parts[i:]).removesuffix(".__init__") for i in range(len(parts))}
        found |= modules
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in defined(node):
                found |= {name, *(f"{module}.{name}" for module in modules)}
            if isinstance(node, ast.ClassDef):
                members = {name for inner in ast.walk(node) for name in defined(inner)}
                found |= {f"{prefix}{node.name}.{member}" for member in members for prefix in ("", *(f"{m}." for m in modules))}
    return found


def defined(node: ast.AST) -> set[str]:
    """Return the names that a statement defines: functions, classes, variables, fields, attributes of self."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    flat = [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {each.id if isinstance(each, ast.Name) else each.attr for each in flat if isinstance(each, ast.Name | ast.Attribute)}


def command_tree(command: click.Command, path: str = "flagbt") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name."""
    yield path, command
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from command_tree(subcommand, f"{path} {name}")


def options_of(command: click.Command) -> set[str]:
    """Return every option of a command, help and version included."""
    return {"--help", "-h", "--version"} | {
        each
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for each in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to an empty folder whose modules can be imported, and remove them afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)


GUIDES_RUN = (
    "../README.md",
    "ARCHITECTURE.md",
    "data.md",
    "python.md",
    "signals.md",
    "strategies.md",
    "features.md",
    "bases.md",
    "calibration.md",
    "doctor.md",
    "significance.md",
    "sweeps.md",
    "checkpoints.md",
    "models.md",
    "reports.md",
)


@pytest.mark.parametrize("name", GUIDES_RUN)
def test_every_block_runs(name: str, desk: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """If this fails, an example that a reader copies from a guide fails."""
    text = page(name)
    for language, file, code in blocks(text):
        if language == "python" and file:
            (desk / file).write_text(code, encoding="utf-8")
    importlib.invalidate_caches()
    space: dict[str, object] = {}
    ran = 0
    for language, file, code in blocks(text):
        if language == "python" and not file:
            exec(compile(code, f"{name}, block {ran + 1}", "exec"), space)
            ran += 1
        elif language == "console":
            for line in code.splitlines():
                program, *arguments = shlex.split(line.removeprefix("$ "))
                assert program == "flagbt"
                code_, _, stderr = command(*arguments)
                assert code_ == 0, f"{line}: {stderr}"
                ran += 1
        elif language == "toml":
            for group, points in tomllib.loads(code)["project"]["entry-points"].items():
                assert group in (STRATEGIES_GROUP, FEATURES_GROUP, METRICS_GROUP, CHECKS_GROUP, MODELS_GROUP)
                if group == MODELS_GROUP:  # a kind is found by its entry point only
                    install(desk, group, points)
                for point in points.values():
                    module, _, attribute = point.partition(":")
                    assert hasattr(importlib.import_module(module), attribute)
        else:
            assert file or language == "text", f"{name}: no test runs a block of '{language}'"
    assert ran > 0


def test_the_command_line_page_is_what_click_prints() -> None:
    """A page of old options sends readers into errors: run python docs/make_command_line.py > docs/command-line.md."""
    assert page("command-line.md") == script("make_command_line").page()


def test_the_tables_are_those_of_the_code() -> None:
    """A table that misses a format, metric or option, or describes an old one: run python docs/make_tables.py."""
    made = script("make_tables")
    assert made.old_pages() == []
    assert {name for path in PAGES for name in re.findall("^<!-- table:(.+) -->$", path.read_text(), re.M)} == set(made.TABLES)


def test_an_old_table_is_found() -> None:
    """If no difference were found, the test above could never fail."""
    made = script("make_tables")
    text = "a\n<!-- table:formats -->\n| old |\n<!-- end:formats -->\nb\n"
    filled = made.with_tables(text, "page")
    assert filled.startswith("a\n<!-- table:formats -->\n| ending | what it is |\n")
    assert filled.endswith("|\n<!-- end:formats -->\nb\n")
    assert made.with_tables(filled, "page") == filled
    with pytest.raises(SystemExit, match=r"page: the block 'fromats'.*Did you mean 'formats'\?"):
        made.with_tables(text.replace("formats", "fromats"), "page")


def test_every_command_and_option_is_documented() -> None:
    """An option that no page names does not exist for most people."""
    text = page("command-line.md")
    for path, command in command_tree(cli):
        section = text.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert command.help
        assert section, f"{path} has no section"
        assert all(option in section for option in options_of(command) - {"--version"}), path


@pytest.mark.parametrize("path", WITH_README, ids=lambda path: path.name)
def test_commands_and_options_named_exist(path: Path) -> None:
    """If this fails, a page names a missing command, or denies an existing one."""
    tree = dict(command_tree(cli))
    every_option = {option for command in tree.values() for option in options_of(command)}
    text, _, missing = path.read_text(encoding="utf-8").partition(NOT_YET)
    for span in spans(text):
        words = span.replace("|", " ").split()
        if words[0] == "flagbt" and len(words) > 1:
            depth = 3 if " ".join(words[:3]) in tree else 2
            known = tree.get(" ".join(words[:depth]))
            assert known is not None or words[1].startswith("-"), f"{path.name} names the command '{span}'"
            used = {word for word in words[depth:] if word.startswith("--")}
            assert known is None or used <= options_of(known), span
        elif words[0].startswith("--"):
            assert words[0].replace("_", "-") in every_option | {"--help"}, f"{path.name} names the option '{span}'"
    for span in spans(missing):
        assert span not in tree, f"{path.name} lists '{span}' as missing, but it exists"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_named_exists(path: Path) -> None:
    """If this fails, a page uses a name that is not in the code."""
    text = path.read_text(encoding="utf-8").partition(NOT_YET)[0]
    shown = "\n".join(file + code for _, file, code in blocks(text))
    for span in spans(text):
        bare = span.removesuffix("()")
        if FILE_NAME.fullmatch(span):
            near = [ROOT / span, path.parent / span]
            assert any(each.exists() for each in near) or f'"{span}"' in source_text() or span in shown, f"no file {span}"
        elif IDENTIFIER.fullmatch(bare) and not DIGEST.fullmatch(bare):
            used = re.search(rf"\b{bare}\b", source_text() + shown) or (ROOT / bare).exists()
            assert used or (BUNDLED / bare).exists(), f"{path.name} names '{bare}', which is nowhere in the code"
        elif DOTTED.fullmatch(bare):
            known = bare.removeprefix("flagbt.") in names_in_code()
            assert known or bare in source_text() + shown, f"{path.name} names '{bare}', which is nowhere in the code"


@pytest.mark.parametrize("path", WITH_README, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """If this fails, a page has a dead link."""
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", [*WITH_README, *sorted((ROOT / "docs").glob("*.py"))], ids=lambda path: path.name)
def test_no_page_names_a_workplace(path: Path) -> None:
    """Paths, hosts and habits of one workplace mean nothing to a reader elsewhere."""
    text = path.read_text(encoding="utf-8")
    hosts = r"pypi\.org|pythonhosted|anaconda\.org|huggingface\.co|npmjs|crates\.io|index-url"
    places = r"(?<![\w.])/(?:work|root|home|tmp|usr|opt|mnt|Users)/|[A-Z]:\\|\.\./shared"
    found = re.search(rf"{hosts}|{places}|\bissue #|\bissue \d|\bsessions?\b", text, flags=re.IGNORECASE)
    assert found is None, f"{path.name}: '{found and found[0]}'"


def test_the_make_targets_named_exist() -> None:
    """The first line that a contributor types must work."""
    named = re.findall(r"^make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"run", "test", "check"} <= set(named) <= set(targets)


def test_the_floors_are_those_of_the_test() -> None:
    """Two drawings of the layers that differ are worse than none."""
    tree = ast.parse((ROOT / "benchmarks" / "structure.py").read_text(encoding="utf-8"))
    layers = next(
        ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and defined(node) == {"LAYERS"}
    )
    part = page("ARCHITECTURE.md").partition("## The layers")[2]
    drawn = next(code for language, _, code in blocks(part) if language == "text")
    assert [set(re.split(r"\s{2,}", line)[0].split(", ")) for line in drawn.splitlines()] == [set(names) for names in layers]


def test_the_funnels_identities_are_those_of_the_code() -> None:
    """The funnel's arithmetic is stated twice: both must be the same."""
    docstring = ast.get_docstring(ast.parse((ROOT / "engine" / "funnel.py").read_text(encoding="utf-8"))) or ""
    stated = [line.strip() for line in docstring.splitlines() if " = " in line]
    assert len(stated) == 5
    assert any(code.splitlines() == stated for _, _, code in blocks(page("ARCHITECTURE.md")))


def test_the_numbers_in_prose_are_those_of_the_code() -> None:
    """A number typed twice is wrong once."""
    from flagbt.data.feature_schema import CLIP
    from flagbt.data.labels import LabelSpec
    from flagbt.engine.costs import Costs
    from flagbt.models.diversity import COLLAPSED_TOTAL_VARIATION
    from flagbt.models.fingerprint import FINGERPRINT_TOLERANCE
    from flagbt.models.kinds.network import FINGERPRINT_ROWS
    from flagbt.results.run_view import DAYS_PER_YEAR

    costs, labels, text = Costs(), LabelSpec(), " ".join(page("ARCHITECTURE.md").split())
    for stated in (
        f"clipped at {CLIP:g} standard deviations",
        f"{labels.horizon_bars} bars ahead, beyond ±{100 * labels.threshold:g} %",
        f"{FINGERPRINT_ROWS} validation rows",
        f"a difference of {FINGERPRINT_TOLERANCE:.4f}",
        f"a total variation above {COLLAPSED_TOTAL_VARIATION} is `collapsed`",
        f"{costs.fee_bps:g} bps of fee and {costs.slippage_bps:g} bps of slippage per side",
        f"{costs.borrow_bps_per_day:g} bp a day of borrow",
        f"Years have {DAYS_PER_YEAR} days",
    ):
        assert stated in text, stated


def test_the_feature_table_is_complete() -> None:
    """If this fails, the table misses a column, or has another order."""
    rows = table_after(page("features.md"), "default features")
    assert tuple(name.strip("`") for name, _ in rows) == DEFAULT.columns
    assert all(len(meaning) > 10 for _, meaning in rows)
    assert f"its warm-up is {DEFAULT.warmup_bars} bars" in page("features.md")


def test_the_tables_of_data_are_complete() -> None:
    """If this fails, the page misses a problem, fix or limit, or states it differently from the code."""
    from flagbt.data import check, row_faults
    from flagbt.data.formats import arrow_table as columnar
    from flagbt.data.formats import column_names as columns
    from flagbt.data.formats import compressed_text as content
    from flagbt.data.formats import json_rows as rows_json
    from flagbt.data.formats import json_scan

    text = page("data.md")
    rows = table_after(text, "problems")
    assert [row[0].strip("`") for row in rows] == list(check.REMEDIES)
    for (_, refused, fixes, _), remedy in zip(rows, check.REMEDIES.values(), strict=True):
        assert refused == ("yes" if remedy.refused else "no")
        assert [fix.strip("` ") for fix in fixes.split(",")] == (list(remedy.fixes) or ["none"])
    for stated in (
        f"{content.LARGEST_BYTES:,} bytes",
        f"beyond {content.RATIO_COUNTS_FROM:,} bytes",
        f"| {content.LARGEST_RATIO} times |",
        f"| rows | {content.MOST_ROWS:,} |",
        f"| columns | {columns.MOST_COLUMNS:,} |",
        f"{content.LONGEST_LINE:,} characters",
        f"| {rows_json.LARGEST_TEXT:,} characters; a row {json_scan.LONGEST_ROW:,}, not nested; around the rows, ",
        f"around the rows, {json_scan.DEEPEST} brackets and {json_scan.MOST_VALUES:,} values |",
        f"| {content.MOST_ENTRIES:,}, of which one",
        f"| {columnar.MOST_MEMORY:,} bytes |",
        f"the last {row_faults.QUIET_BARS} bars' and below {100 * row_faults.QUIET_SHARE:g} %",
        f"by a factor of more than {row_faults.JUMP}",
        ", ".join(f"`{name}`" for name in columns.TIME_NAMES[:6]),
    ):
        assert stated in text.replace("\n", " ").replace("  ", " "), stated


def test_the_table_of_certainty_is_complete(run_maker: Callable[..., object]) -> None:
    """If this fails, a number in the record is explained on no page."""
    from flagbt.results.significance.measure import significance
    from flagbt.results.trial_log import TrialCount

    run = run_maker(48)
    found = significance(run, run, TrialCount(1, ()))  # type: ignore[arg-type]
    names = [field.name for field in fields(found)]
    assert [row[0].strip("`") for row in table_after(page("significance.md"), "figures")] == names[:-1]
    assert "`verdict`" in page("significance.md")


def test_the_folder_tables_are_complete(tmp_path: Path, run_maker: Callable[..., object]) -> None:
    """If this fails, a table misses a file of the folder, or lists one that does not exist."""
    from flagbt.results.recording import record_of
    from flagbt.results.store import write_run

    def listed(mark: str) -> set[str]:
        return {row[0].strip("`") for row in table_after(page("ARCHITECTURE.md"), mark)}

    run, benchmark = run_maker(48), run_maker(48, kind="buy-and-hold")
    stored = write_run(record_of(run, benchmark), tmp_path, page=lambda _: "page")  # type: ignore[arg-type]
    assert stored.folder is not None
    assert listed("run folder") == {file.name for file in stored.folder.iterdir()}
    assert listed("checkpoint folder") == {file.name for file in (BUNDLED / "Jan4").iterdir()}


def test_the_logs_newest_table_is_that_of_the_checkpoints() -> None:
    """Figures of other checkpoints than those that ship: add a dated entry, see docs/make_checkpoint_table.py."""
    made = script("make_checkpoint_table")
    newest = page("LOG.md").partition(made.FIRST_LINE)[2].partition(made.LAST_LINE)[0]
    assert f"{made.FIRST_LINE}{newest}{made.LAST_LINE}\n" == made.table(made.bundled_names())


def test_log_entries_are_dated_newest_first() -> None:
    """A log out of order is read wrongly."""
    dates = re.findall(r"^## (\d{4}-\d{2}-\d{2}): \S", page("LOG.md"), flags=re.MULTILINE)
    assert dates
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == len(re.findall(r"^## ", page("LOG.md"), flags=re.MULTILINE))
