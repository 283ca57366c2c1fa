"""Options as fields: their checks, what is derived from them, and the examples in the help of every command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click
import numpy as np
import pytest

from flagbt.cli.main import cli
from flagbt.cli.options import Command
from flagbt.data.time_range import TimeRange
from flagbt.engine.costs import Costs
from flagbt.engine.rules import Rules
from flagbt.engine.run_request import RunRequest, Scoring
from flagbt.errors import UsageError
from flagbt.models.calibration import Calibration
from flagbt.options import check_options, from_options, nested, option, option_table, recorded, values_of
from flagbt.results.repeat_command import given_options, run_command_text
from flagbt.results.trial_log import configuration_digest
from flagbt.sweeps.grid import Grid, Point, Points, SweptCheckpoint
from flagbt.sweeps.record import repeat_command
from flagbt.sweeps.result_table import columns
from flagbt.workflows import sweep_request
from flagbt.workflows.sweep_request import SweepRequest, axes_of, swept_options


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Options of every kind."""

    spread_bps: float = option(1.0, help="Half the spread.", unit="bps", minimum=0, below=50, sweep=True)
    patience_bars: int | None = option(None, help="Bars to wait.", unit="bars", minimum=1)
    is_strict: bool = option(True, help="Refuse what is unclear.")
    side: str = option("both", help="The sides.", choices=("both", "long"), recorded="always")

    def __post_init__(self) -> None:
        check_options(self, "extras")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A dataclass that holds another one."""

    name: str = option("a", help="A name.", group="First")
    extras: Extras = nested(Extras, group="Extras")
    free: tuple[int, ...] = ()


def test_a_table_lists_the_fields_with_their_types_and_headings() -> None:
    """If it fails, an option is missing in a command, or has another type, default or heading there."""
    found = [(each.name, each.kind, each.is_optional, each.default, each.group, each.owner) for each in option_table(Whole)]
    assert found == [
        ("name", str, False, "a", "First", ""),
        ("spread_bps", float, False, 1.0, "Extras", "extras"),
        ("patience_bars", int, True, None, "Extras", "extras"),
        ("is_strict", bool, False, True, "Extras", "extras"),
        ("side", str, False, "both", "Extras", "extras"),
    ]


def test_flat_values_make_the_dataclasses_and_come_back() -> None:
    """If it fails, an option from the command line or a record is lost."""
    made = from_options(Whole, {"name": "b", "patience_bars": 3, "free": (1,), "unknown": 1})
    assert made == Whole(name="b", extras=Extras(patience_bars=3), free=(1,))
    flat = values_of(made)
    assert flat == {"name": "b", "spread_bps": 1.0, "patience_bars": 3, "is_strict": True, "side": "both", "free": (1,)}
    assert from_options(Whole, flat) == made


def test_only_what_differs_from_its_default_is_recorded() -> None:
    """If it fails, a new option changes the digest of every configuration, or a changed one is not in the record."""
    assert recorded(Extras()) == {"side": "both"}
    assert recorded(Extras(spread_bps=2.0, is_strict=False)) == {"spread_bps": 2.0, "is_strict": False, "side": "both"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spread_bps": 50.0}, "extras: spread_bps is 50, expected a number 0 or more and below 50."),
        ({"spread_bps": float("nan")}, "extras: spread_bps is nan, expected a number 0 or more and below 50."),
        ({"spread_bps": "3"}, "extras: spread_bps is '3', expected a number 0 or more and below 50."),
        ({"spread_bps": None}, "extras: spread_bps is None, expected a number"),
        ({"spread_bps": True}, "extras: spread_bps is True, expected a number"),
        ({"patience_bars": 0}, "extras: patience_bars is 0, expected a whole number 1 or more."),
        ({"patience_bars": 1.5}, "extras: patience_bars is 1.5, expected a whole number 1 or more."),
        ({"is_strict": "no"}, "extras: is_strict is 'no', expected True or False."),
        ({"side": "lnog"}, "--side: 'lnog' is unknown. Did you mean 'long'?"),
        ({"side": 3}, "extras: side is 3, expected text."),
    ],
)
def test_a_wrong_type_or_range_is_refused(given: dict[str, object], message: str) -> None:
    """If it fails, a typing error reaches the engine as a number, or ends in a traceback."""
    with pytest.raises(UsageError) as error:
        from_options(Extras, given)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Costs, {"fee_bps": "5"}, "costs: fee_bps is '5', expected 0 to 1,000 basis points"),
        (Rules, {"cooldown_bars": 1.5}, "rules: cooldown_bars is 1.5, expected 0 bars or more"),
        (Rules, {"exit": 6}, "rules: exit is 6, expected text"),
        (RunRequest, {"cash": "much"}, "--cash: expected an amount of quote currency above 0, got 'much'"),
        (RunRequest, {"short": "yes"}, "--short: expected True or False, got 'yes'"),
        (RunRequest, {"seed": -1}, "--seed: expected a whole number 0 or more, got -1"),
        (Scoring, {"batch_size": 0}, "scoring: batch_size is 0, expected a whole number 1 or more"),
        (SweepRequest, {"ckpt": ()}, "--ckpt: name one checkpoint or more"),
        (
            SweepRequest,
            {"ckpt": ("a",), "axes": {"fee_bsp": (1.0,)}},
            "sweep: 'fee_bsp' cannot be varied. Did you mean 'fee_bps'?",
        ),
        (SweepRequest, {"ckpt": ("a",), "axes": {"fee_bps": 1.0}}, "sweep: fee_bps is 1.0, expected a tuple of values"),
        (SweepRequest, {"ckpt": ("a",), "axes": {"short": ("no",)}}, "--short: expected True or False, got 'no'"),
        (SweepRequest, {"ckpt": ("a",), "workers": 0}, "--workers: expected a whole number 1 or more, got 0"),
        (SweepRequest, {"ckpt": ("a",), "backend": "dask"}, "--backend: 'dask' is unknown"),
    ],
)
def test_a_request_from_python_is_checked_as_a_command_is(kind: type, given: dict[str, object], message: str) -> None:
    """If it fails, a script gets a library's traceback where a command gets a sentence."""
    with pytest.raises(UsageError) as error:
        kind(**given)
    assert str(error.value).startswith(message)


def test_every_option_is_in_every_command_that_it_belongs_to() -> None:
    """If it fails, an option exists in Python only."""
    run = {each.name for each in option_table(RunRequest)}
    swept = {each.name for each in swept_options()}
    for name, expected in (("run", run), ("show-config", run), ("sweep", swept | {e.name for e in option_table(SweepRequest)})):
        params = {param.name for param in cli.commands[name].params}
        assert expected <= params, name
    assert swept >= {each.name for kind in (Costs, Rules) for each in option_table(kind)}
    assert [axis.name for axis in axes_of({})] == ["decision", *(each.name for each in swept_options())]
    assert {axis.name for axis in axes_of({})} <= set(columns(axes_of({})))


def test_options_stand_under_headings_with_their_range_and_unit() -> None:
    """If it fails, `flagbt run --help` is one long list, or hides a limit."""
    command = cli.commands["run"]
    text = help_of(command, "run")
    headings = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == [
        *("Examples", "Strategy", "Bars", "Model and scoring", "Account", "Costs", "Rules", "Output", "Options")
    ]
    costs = text.partition("\nCosts:\n")[2].partition("\n\n")[0]
    assert "--fee-bps BPS " in costs
    assert "[default: 10.0; 0 to 1,000]" in costs


def test_costs_and_rules_are_read_from_an_old_record() -> None:
    """If it fails, a record of an earlier version is not read, or an unknown setting is taken for a cost."""
    settings = {"fee_bps": 5, "stop_loss": 0.1, "exit": "horizon:6", "reserve_bps": 20.0, "strategy": "random"}
    assert Costs.from_json(settings) == Costs(fee_bps=5)
    assert Rules.from_json(settings) == Rules(stop_loss=0.1, exit="horizon:6")
    assert Rules.from_json({}) == Rules()


def test_the_exit_at_the_labels_horizon_takes_its_bars_from_a_checkpoint() -> None:
    """If it fails, the exit is another one than the record states, or none."""
    rules = Rules(exit="horizon")
    assert rules.with_horizon(6) == Rules(exit="horizon:6")
    assert Rules(exit="horizon:06").describe() == {"exit": "horizon:6"}
    assert (Rules().with_horizon(6), Rules(exit="horizon:3").with_horizon(6)) == (Rules(), Rules(exit="horizon:3"))
    assert (Rules().limits().horizon_bars, rules.with_horizon(6).limits().horizon_bars) == (0, 6)
    for needs_bars in (rules.limits, lambda: rules.with_horizon(None)):
        with pytest.raises(UsageError, match="there is no checkpoint: write horizon:6"):
            needs_bars()


def test_the_costs_in_basis_points_are_multiplied() -> None:
    """If it fails, a page shows the effect of twice the costs without one of them."""
    assert Costs(fee_bps=5.0, lot_size=0.5).times(2) == Costs(
        fee_bps=10.0, slippage_bps=4.0, borrow_bps_per_day=2.0, lot_size=0.5
    )


def test_the_command_of_a_record_names_every_option_in_it() -> None:
    """If it fails, the command on a page repeats another run."""
    settings = {
        "bars_seen": [],
        "parameters": {"fast_bars": 3},
        "strategy": "random",
        "cash": 10_000.0,
        "sizing": "at fill",
        **Costs(fee_bps=5.5).describe(),
        **Rules(stop_loss=0.05).describe(),
        "short": False,
        "seed": 3,
        "code": {"file": "d" * 64},
        "written_by_a_plugin": 0.5,
    }
    assert run_command_text(given_options(settings)) == (
        "flagbt run --strategy random --fee-bps 5.5 --slippage-bps 2 --borrow-bps-per-day 1 --cash 10000 --stop-loss 0.05 "
        "--seed 3"
    )


def test_a_sweep_varies_only_what_its_replay_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a sweep has an axis along which every setting gives the same result."""

    @dataclass(frozen=True, kw_only=True)
    class Longer(RunRequest):
        skip_bars: int = option(0, help="Leave out the first bars.", group="Bars", minimum=0, sweep=True)

    monkeypatch.setattr(sweep_request, "RunRequest", Longer)
    with pytest.raises(TypeError, match="option 'skip_bars': sweep=True, but a sweep varies only short, cash, costs, rules"):
        swept_options()


def test_the_command_of_a_setting_makes_the_same_run() -> None:
    """If it fails, the line that repeats a sweep's winner repeats another setting."""
    values = {"fee_bps": (3.0,), "cash": (2_500.0,), "short": (True,), "stop_loss": (0.05,), "exit": ("horizon",)}
    model = SweptCheckpoint("made", "d" * 64, np.array([-0.02, 0.0, 0.02]), 6, Points((Point("none", Calibration()),)))
    grid = Grid(models=(model,), axes=axes_of(values | {"decision": ("argmax",)}))
    line = repeat_command(grid, grid[0], "20240101-20240201", others={"data": "b.csv"})
    assert line == (
        "flagbt run --ckpt made --data b.csv --timerange 20240101-20240201 --calibration none --decision argmax --fee-bps 3 "
        "--slippage-bps 2 --borrow-bps-per-day 1 --cash 2500 --exit horizon:6 --stop-loss 0.05 --short"
    )
    with cli.commands["run"].make_context("run", shlex.split(line)[2:]) as context:
        given = {name: value for name, value in context.params.items() if value is not None}
    request = RunRequest.of(given)
    assert (request.costs, request.rules) == (grid[0].costs, grid[0].rules)
    assert (request.cash, request.short, request.timerange) == (2_500.0, True, TimeRange.parse("20240101-20240201"))


def test_the_digest_of_a_configuration_has_not_changed() -> None:
    """If it fails, every trial in every log counts twice after an upgrade."""
    config = {"strategy": "random", "cash": 10_000.0, "short": False, **Costs().describe(), **Rules(stop_loss=0.05).describe()}
    assert configuration_digest(config, None) == "b59f184e0b83012c47cd455e6f108000742cab98cc3c8743e057d2968571d5ef"
    assert set(config) - {"strategy", "cash", "short"} == {
        *("fee_bps", "slippage_bps", "borrow_bps_per_day", "lot_size", "sizing", "stop_loss")
    }


def help_of(command: click.Command, *path: str) -> str:
    """Return the help of a command, as the program prints it in a wide terminal."""
    settings = {**cli.context_settings, "max_content_width": 120}
    return command.get_help(click.Context(command, info_name=" ".join(("flagbt", *path)), terminal_width=120, **settings))


def leaves(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command, groups aside, with its names."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, *path, name)
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"), [*leaves(cli)], ids=lambda each: " ".join(each) if isinstance(each, tuple) else ""
)
def test_the_help_of_every_command_has_two_examples_that_parse(
    path: tuple[str, ...], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a reader has no line to start from, or one with an option that does not exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("fee_bps: 5\n")
    text = help_of(command, *path)
    shown = text.partition("\nExamples:\n")[2].partition("\n\n")[0]
    assert len(command.examples) == len(set(command.examples)) == 2
    assert shown == "\n".join(f"  {example}" for example in command.examples)
    for example in command.examples:
        program, *words = shlex.split(example)
        assert (program, *words[: len(path)]) == ("flagbt", *path)
        with command.make_context(path[-1], words[len(path) :]) as context:
            assert context.params


def test_the_help_of_every_group_has_two_examples() -> None:
    """If it fails, `flagbt data --help` shows no line to start from."""
    for name, command in (("flagbt", cli), *((n, c) for n, c in cli.commands.items() if isinstance(c, click.Group))):
        text = help_of(command, name)
        assert text.partition("\nExamples:\n")[2].partition("\n\n")[0].count("  flagbt ") == 2, name


def test_every_field_of_the_requests_is_read_somewhere() -> None:
    """If it fails, an option is accepted and has no effect."""
    root = Path(__file__).resolve().parents[2]
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("engine", "workflows", "sweeps", "strategies")
        for path in (root / folder).rglob("*.py")
    )
    for kind in (Costs, Rules, Scoring, RunRequest, SweepRequest):
        for each in fields(kind):
            assert f".{each.name}" in code, f"{kind.__name__}.{each.name}"
