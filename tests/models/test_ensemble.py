"""Ensembles: the pool of whole checkpoints, what it has seen, and members that do not belong together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import SEEN, linear, original, served_bars, stated, training_bars
from own_kinds import OWN_KINDS

from flagbt.data.bars import Bars
from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import DEFAULT, feature_set
from flagbt.data.labels import LabelSpec
from flagbt.data.time_range import TimeRange
from flagbt.doctor.checkpoint_subject import subject_of_checkpoint
from flagbt.doctor.checks.leaky_split import CHECK as LEAKY_SPLIT
from flagbt.doctor.finding import Finding
from flagbt.errors import CheckpointError, FlagbtError, RangeError
from flagbt.models.calibration import Calibration
from flagbt.models.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from flagbt.models.importing import import_model
from flagbt.models.kinds import BUILT_IN
from flagbt.models.logit_cache import entries, logits_of
from flagbt.models.overlap import check_overlap
from flagbt.models.pool import pooled
from flagbt.workflows.combine import Combination, CombineRequest, combine_request

Command = Callable[..., tuple[int, str, str]]
FIT = TimeRange.parse("20230801-")


@pytest.fixture(scope="module", autouse=True)
def own_kinds() -> Iterator[None]:
    """Register two kinds that no package installs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in OWN_KINDS.items():
            patch.setitem(BUILT_IN, name, entry)
        yield


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    """Return an imported network and a linear layer."""
    folder = tmp_path_factory.mktemp("members")
    return original(folder), linear(folder)


@pytest.fixture(scope="module")
def served() -> Bars:
    """Return bars that no member has seen."""
    return served_bars()


def combined(members: tuple[Checkpoint, ...], target: Path, **options: Any) -> Combination:
    """Make an ensemble."""
    return combine_request(CombineRequest(members=members, kind="ensemble", **options), target)


def other_linear(folder: Path, name: str = "other", **facts: Any) -> Checkpoint:
    """Import a linear layer of other weights and facts."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(9).normal(0, 0.3, (31, 3)).tolist()
    (folder / "weights.json").write_text(json.dumps(weights))
    return import_model(folder / "weights.json", folder / name, stated(**facts), kind="linear")


def test_its_logits_are_the_pool_of_its_members(members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path) -> None:
    """If it fails, a run of an ensemble is not of the members and weights that its card names."""
    both = combined(members, tmp_path / "both", weights=(0.3, 0.7)).checkpoint
    each = [member.model.logits(served, device="cpu") for member in members]
    wanted = pooled(each, (0.3, 0.7))
    warmup = both.model.warmup_bars
    assert warmup == max(member.model.warmup_bars for member in members)
    for found in (both.model.logits(served, device="cpu"), logits_of(both, served, device="cpu")):
        assert np.array_equal(found, wanted, equal_nan=True)
        assert np.isnan(found[:warmup]).any(axis=1).all()
        assert np.isfinite(found[warmup:]).all()
    turned = combined(members[::-1], tmp_path / "turned", weights=(0.7, 0.3)).checkpoint
    assert np.allclose(logits_of(turned, served, device="cpu"), wanted, atol=1e-12, equal_nan=True)


def test_members_are_scored_once_for_all(members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path) -> None:
    """If it fails, a year is scored again for every ensemble of a model, or --no-cache leaves something behind."""
    both, done = combined(members, tmp_path / "both").checkpoint, []
    logits_of(both, served, device="cpu", cache=False)
    assert entries() == []
    logits_of(both, served, device="cpu", progress=lambda now, total: done.append((now, total)))
    assert sorted(each.checkpoint or "" for each in entries()) == sorted(member.digest for member in members)
    assert done == sorted(done)
    assert done[-1] == (len(served), len(served))
    logits_of(combined(members, tmp_path / "again", weights=(0.1, 0.9)).checkpoint, served, device="cpu")
    assert len(entries()) == 2


def test_it_needs_nothing_but_its_folder(members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path) -> None:
    """If it fails, an ensemble breaks when a member is retrained, or copies other files of their folders."""
    copies = tuple(read_checkpoint(shutil.copytree(each.folder, tmp_path / each.name)) for each in members)
    (copies[0].folder / "notes.txt").write_text("private")
    both = combined(copies, tmp_path / "both").checkpoint
    before = logits_of(both, served, device="cpu", cache=False)
    assert not list(both.folder.rglob("notes.txt"))
    for each in copies:
        shutil.rmtree(each.folder)
    moved = read_checkpoint(both.folder.rename(tmp_path / "moved"))
    assert np.array_equal(logits_of(moved, served, device="cpu", cache=False), before, equal_nan=True)


def test_bundled_checkpoints_can_be_members(served: Bars, tmp_path: Path) -> None:
    """If it fails, the first ensemble that a newcomer tries is refused."""
    both = combined((find_checkpoint("Jan4"), find_checkpoint("focal")), tmp_path / "both").checkpoint
    assert both.ranges == find_checkpoint("Jan4").ranges
    assert np.isfinite(logits_of(both, served, device="cpu")[both.model.warmup_bars :]).all()


def test_an_ensemble_of_ensembles_is_their_product(
    members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path
) -> None:
    """If it fails, nesting changes the formula, or has no end."""
    third = other_linear(tmp_path)
    inner = combined(members, tmp_path / "inner", weights=(0.5, 0.5)).checkpoint
    outer = combined((inner, third), tmp_path / "outer", weights=(0.4, 0.6)).checkpoint
    flat = combined((*members, third), tmp_path / "flat", weights=(0.2, 0.2, 0.6)).checkpoint
    nested, plain = (logits_of(each, served, device="cpu") for each in (outer, flat))
    assert np.allclose(nested, plain, atol=1e-9, equal_nan=True)
    more = combined((outer, members[0]), tmp_path / "more").checkpoint
    with pytest.raises(FlagbtError, match="'more' is an ensemble of ensembles, 3 levels deep"):
        combined((more, third), tmp_path / "most")


def test_what_the_members_have_seen_is_seen(members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path) -> None:
    """If it fails, an ensemble is tested on bars that one of its members was trained on."""
    later = other_linear(tmp_path, seen=TimeRange.parse("20230301-20230401"), validated_on=TimeRange.parse("20230401-20230501"))
    both = combined((members[0], later), tmp_path / "both").checkpoint
    assert both.ranges["training"] == SEEN
    assert both.text_until is None
    with pytest.raises(RangeError, match="has seen bars of the requested range"):
        check_overlap(both, Calibration(), training_bars(), slice(2000, 2100))
    unknown = other_linear(tmp_path / "u", "unknown", seen=None, seen_text="unknown")
    mixed = combined((members[0], unknown), tmp_path / "mixed").checkpoint
    assert mixed.bars_seen is None
    assert mixed.ranges["training"] == SEEN, "what is known to be seen is refused all the same"
    none = other_linear(tmp_path / "n", "none", seen=None, seen_text="none")
    assert combined((members[0], none), tmp_path / "with_none").checkpoint.ranges == members[0].ranges
    scaled = FeatureSchema.fit(DEFAULT, DEFAULT.compute(served)[DEFAULT.warmup_bars :])
    more = other_linear(tmp_path / "m", "more", seen=None, seen_text="none", schema=scaled)
    nothing = combined((none, more), tmp_path / "0")
    assert nothing.checkpoint.bars_seen == ()


def test_the_ranges_of_several_members_are_not_one_split(
    members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path
) -> None:
    """If it fails, the doctor calls an ensemble broken, and no calibration of it can be fitted: its ranges span trainings."""
    later = other_linear(tmp_path, validated_on=TimeRange.parse("20230401-20230501"))
    both = combined((members[1], later), tmp_path / "both").checkpoint
    for checkpoint in (both, members[1]):
        found = finding(checkpoint, served)
        assert (found.severity, found.message[:32]) == ("skipped", "The training and validation samp")
    alone = finding(later, served)
    assert alone.severity == "ok", "the part that only chose its epoch was not trained on"
    assert alone.examined["validation_samples"] == 30 * 24 - 6


def finding(checkpoint: Checkpoint, served: Bars) -> Finding:
    """Return what the doctor finds about the split of a checkpoint."""
    return LEAKY_SPLIT.run(subject_of_checkpoint(checkpoint, served, past=training_bars()))


def test_the_hints_name_the_code_of_the_members(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, the command that an ensemble prints next is refused as it is copied."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hinted_columns.py").write_text(
        "from flagbt import FeatureSet\nfrom flagbt.data.features import DEFAULT\n"
        "SET = FeatureSet('hinted_columns:SET', columns=DEFAULT.columns, warmup_bars=DEFAULT.warmup_bars, "
        "compute=DEFAULT.compute)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    features = feature_set("hinted_columns:SET")
    rows = features.compute(training_bars())
    schema = FeatureSchema.fit(features, rows[np.isfinite(rows).all(axis=1)])
    other_linear(tmp_path / "checkpoints", "mine", schema=schema)
    code, out, err = command("ckpt", "ensemble", "--name", "two", "mine", "Jan4", "--features", "hinted_columns:SET")
    assert code == 0, err
    assert "calibrate --ckpt two --features hinted_columns:SET --data FILE --timerange A-B --method vector" in out
    assert "run --ckpt two --features hinted_columns:SET --data FILE" in out


def test_bars_that_may_be_tested_decide_nothing(
    command: Command, served: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the test's bars give the classes' mean returns, or a decision that needs them is refused after an hour."""
    monkeypatch.chdir(tmp_path)
    for word in ("none", "unknown"):
        made = other_linear(tmp_path / word, seen=None, seen_text=word)
        assert made.label_shares is None
        assert made.class_returns is None
        for name in ("run", "sweep"):
            code, _, err = command(name, "--ckpt", made.folder, "--timerange", "20240301-20240401", "--decision", "utility")
            assert code == 2
            assert "--decision utility: it weighs the mean returns" in err
            assert entries() == []
        assert subject_of_checkpoint(made, served).usable_decision == "threshold:P", "another remedy would be refused"
    assert subject_of_checkpoint(other_linear(tmp_path / "some"), served).usable_decision == "utility"


@pytest.mark.parametrize(
    ("dates", "wanted"),
    [((date(2022, 5, 1), date(2023, 7, 2)), date(2023, 7, 2)), ((date(2022, 5, 1), None), None), ((None, None), None)],
)
def test_the_newest_text_counts(dates: tuple[date | None, ...], wanted: date | None, tmp_path: Path) -> None:
    """If it fails, an ensemble hides text that one of its members may have read."""
    made = tuple(
        other_linear(tmp_path / str(i), f"m{i}", text_until=each, seen=TimeRange.parse(f"2023010{i + 1}-20230501"))
        for i, each in enumerate(dates)
    )
    assert combined(made, tmp_path / "both").checkpoint.text_until == wanted


def test_a_network_trained_here_on_bars_has_read_no_text(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a member that reads bars only makes a stated date unknown."""
    dated = other_linear(tmp_path, text_until=date(2022, 5, 1))
    assert combined((nano, dated), tmp_path / "both").checkpoint.text_until == date(2022, 5, 1)


def test_fitted_weights_are_stored_with_their_range(
    members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path
) -> None:
    """If it fails, an ensemble is tested on the bars that chose its weights."""
    made = combined(members, tmp_path / "both", weights="fitted", bars=served, timerange=FIT)
    fit = made.fit
    assert fit is not None
    assert fit.nll <= min(fit.nll_equal, *fit.nll_members) + 1e-12
    assert fit.fitted_on.startswith("20230801-")
    assert made.checkpoint.settings["fitted_on"] == fit.fitted_on
    assert made.checkpoint.ranges["calibration"] == TimeRange(SEEN.start, TimeRange.parse(fit.fitted_on).stop)
    with pytest.raises(RangeError, match="has seen bars of the requested range"):
        check_overlap(made.checkpoint, Calibration(), served, slice(800, 900))
    assert "fitted on 20230801-" in (made.checkpoint.folder / "README.md").read_text()


def test_weights_are_not_fitted_where_a_member_was_trained(members: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
    """If it fails, the weights reward the member that has learned the bars by heart."""
    with pytest.raises(RangeError, match="was trained on bars of this range"):
        combined(members, tmp_path / "both", weights="fitted", bars=training_bars(), timerange=TimeRange.parse("20230301-"))
    assert not (tmp_path / "both").exists()


def test_members_that_answer_other_questions_are_refused(
    members: tuple[Checkpoint, Checkpoint], tmp_path: Path, served: Bars
) -> None:
    """If it fails, probabilities of different events are averaged without a word."""
    network, layer = members
    other = other_linear(tmp_path, labels=LabelSpec(12, 0.01))
    named = read_checkpoint(shutil.copytree(other_linear(tmp_path / "b").folder, tmp_path / "b" / layer.name))
    cases: list[tuple[tuple[Checkpoint, ...], dict[str, Any], str]] = [
        ((network,), {}, "an ensemble has 2 to 50 members, and 1 given"),
        ((network, layer, network), {}, "are the same checkpoint"),
        ((layer, named), {}, "two members have the name 'tiny_linear'"),
        ((layer, other), {}, r"answer different questions, horizon:6,0\.01 and horizon:12,0\.01"),
        (
            members,
            {"weights": (1.0,)},
            "expected fitted, or one number for each of tiny_original, tiny_linear, .* got 1 weights",
        ),
        (members, {"weights": (2.0, 3.0)}, r"not 0 or more with the sum 1.*In these proportions: 0\.4,0\.6"),
        (members, {"weights": "best"}, "expected fitted, .*got 'best'"),
        (members, {"weights": "fitted"}, "name the bars of the fit with --data FILE --timerange A-B"),
        (members, {"bars": served}, "--data and --timerange are for --weights fitted"),
    ]
    for given, options, words in cases:
        with pytest.raises(FlagbtError, match=words) as caught:
            combined(given, tmp_path / "both", **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "both").exists()


def test_members_of_other_bars_are_refused(members: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
    """If it fails, a model of hours and one of days are scored on the same bars."""
    daily = shutil.copytree(other_linear(tmp_path).folder, tmp_path / "daily")
    values = json.loads((daily / "checkpoint.json").read_text())
    values["data"]["step_hours"] = 24.0
    (daily / "checkpoint.json").write_text(json.dumps(values))
    with pytest.raises(FlagbtError, match="bars of different lengths: 'tiny_original' bars of 1 h and 'daily' bars of 24 h"):
        combined((members[0], read_checkpoint(daily)), tmp_path / "both")


def test_a_member_that_states_too_little_is_refused(members: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
    """If it fails, an ensemble hides that the training of a member is unknown."""
    vague = other_linear(tmp_path, seen=None, bars=None)
    with pytest.raises(CheckpointError, match="was imported without the bars it has seen"):
        combined((members[0], vague), tmp_path / "both")


def edited(path: Path, **changes: Any) -> None:
    """Change entries of a checkpoint.json."""
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


def test_an_edited_ensemble_is_refused(members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path) -> None:
    """If it fails, an ensemble runs with another member, or hides the bars that a member has seen."""
    both = combined(members, tmp_path / "both").checkpoint
    inner = f"members/{members[1].name}"
    settings = both.settings

    def renamed(name: str) -> dict[str, Any]:
        stated = json.loads(json.dumps(settings))
        stated["members"][1]["name"] = name
        return {"architecture": stated}

    attacks: list[tuple[Callable[[Path], object], str]] = [
        (lambda at: shutil.rmtree(at / inner), "is not a checkpoint: it holds no checkpoint.json"),
        (
            lambda at: edited(at / inner / "checkpoint.json", class_returns=[0.0, 0.0, 0.0]),
            "is another checkpoint than the one",
        ),
        (
            lambda at: edited(at / "checkpoint.json", labels={"kind": "horizon", "horizon_bars": 3, "threshold": 0.01}),
            "labels in its",
        ),
        (
            lambda at: edited(at / "checkpoint.json", bars_seen="none", ranges=None),
            "ranges in its checkpoint.json do not follow",
        ),
        (lambda at: edited(at / "checkpoint.json", **renamed("../../" + members[1].name)), "is not the name of a member"),
        (lambda at: edited(at / "checkpoint.json", **renamed(members[0].name)), "two of its members have one name"),
        (lambda at: (shutil.rmtree(at / inner), (at / inner).symlink_to(members[1].folder)), "is a symbolic link"),
        (lambda at: (at / inner / "weights.json").write_text("[]"), "differs from what was saved"),
    ]
    for i, (attack, words) in enumerate(attacks):
        folder = shutil.copytree(both.folder, tmp_path / str(i))
        attack(folder)
        for use in (lambda each: logits_of(each, served, device="cpu"), lambda each: each.model.check_files()):
            with pytest.raises(CheckpointError, match=words) as caught:
                use(read_checkpoint(folder))
            assert "\n" not in str(caught.value)


def test_ensembles_nested_without_end_are_refused(members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path) -> None:
    """If it fails, a small folder of folders fills the memory or ends in a traceback."""
    at = combined(members, tmp_path / "deep").checkpoint.folder
    folder = at
    for _ in range(60):
        below = folder / "members" / members[0].name
        shutil.rmtree(below)
        below.mkdir(parents=True)
        shutil.copyfile(at / "checkpoint.json", below / "checkpoint.json")
        shutil.copytree(at / "members" / members[1].name, below / "members" / members[1].name)
        (below / "members" / members[0].name).mkdir()
        folder = below
    with pytest.raises(CheckpointError):
        logits_of(read_checkpoint(at), served, device="cpu")


def test_the_command_line(
    command: Command, members: tuple[Checkpoint, Checkpoint], served: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, an ensemble cannot be made, shown, listed or run from the command line."""
    monkeypatch.chdir(tmp_path)
    served.frame().to_csv("bars.csv", index_label="time")
    names = [str(each.folder) for each in members]
    fitted = ("--weights", "fitted", "--data", "bars.csv", "--timerange", "20230801-20230810")
    code, out, _ = command("ckpt", "ensemble", "--name", "both", *names, *fitted, "--device", "cpu", "--json")
    assert code == 0
    values = json.loads(out)
    assert [each["name"] for each in values["members"]] == [each.name for each in members]
    assert values["fit"]["fitted_on"] == "20230801-20230810"
    assert sum(each["weight"] for each in values["members"]) == pytest.approx(1)
    code, out, err = command("ckpt", "ensemble", "--name", "both", *names, "--overwrite", "--weights", "0.25,0.75")
    assert (code, "0.25" in out, "flagbt calibrate --ckpt both" in out) == (0, True, True), err
    assert "| tiny_linear | linear |" in command("ckpt", "show", "both")[1]
    assert "both" in command("ckpt", "list")[1]
    code, out, err = command(
        "run", "--ckpt", "both", "--data", "bars.csv", "--timerange", "20230801-20230810", "--device", "cpu"
    )
    assert code == 0, err
    code, _, err = command("ckpt", "ensemble", "--name", "more", "both", "bth")
    assert (code, "Did you mean 'both'" in err) == (1, True)
    code, _, err = command("ckpt", "ensemble", "--name", "more", *names, "--weights", "a,b")
    assert (code, "neither fitted nor numbers" in err) == (2, True)
    assert not (tmp_path / "checkpoints" / "more").exists()
