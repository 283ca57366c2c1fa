"""The error classes: what a user did or has that stops a command, reported in one paragraph.

    FlagbtError                exit 1   the base class; never raised
    ├── UsageError             exit 2   an option's value or a name that flagbt does not know
    ├── DataError              exit 1   a bars file, or bars, that cannot be used as they are
    ├── FetchError             exit 1   an exchange that does not answer, or whose answers are not bars
    ├── RangeError             exit 1   a time range with no bars, too few, or that overlaps training
    ├── CheckpointError        exit 1   a checkpoint that is missing, damaged or does not fit
    ├── StrategyError          exit 1   a plug-in that cannot be loaded or breaks its contract
    │   └── ContractError      exit 1   in a package's own tests: the part of the contract that its plug-in breaks
    ├── DeviceError            exit 1   a requested device that is missing, or is out of memory
    ├── TrainingError          exit 1   a training that cannot start or must stop
    └── RecordError            exit 1   a run folder that cannot be written or read

A message states what was expected, what was found (the value and its place) and what to do.
Only these errors are shown without a traceback: any other exception is a defect of flagbt.
"""

from __future__ import annotations

import difflib
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class FlagbtError(Exception):
    """Base of every error that a user can cause and fix; ``exit_code`` is the command line's."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_paragraph(message))


class UsageError(FlagbtError):
    """An option's value, or a name, that flagbt does not know."""

    exit_code = 2


class DataError(FlagbtError):
    """Bars, or a file of bars, that cannot be used as they are."""


class FetchError(FlagbtError):
    """An exchange that does not answer, or whose answers are not bars."""


class RangeError(FlagbtError):
    """A time range with no bars, with too few, or that overlaps what a checkpoint was trained on."""


class CheckpointError(FlagbtError):
    """A checkpoint that is missing, damaged, or does not fit the bars or the code."""


class StrategyError(FlagbtError):
    """A strategy or feature plug-in that cannot be loaded, or that breaks its contract."""


class ContractError(StrategyError, AssertionError):
    """A plug-in that a function of ``flagbt.testing`` has tested, and that breaks its contract.

    Attributes
    ----------
    part : str
        The broken part of the contract, such as ``look-ahead``; the message names it too.
    """

    def __init__(self, message: str = "", part: str = "") -> None:
        super().__init__(message)
        self.part = part


class DeviceError(FlagbtError):
    """A requested device that is missing, or that ran out of memory."""


class TrainingError(FlagbtError):
    """A training that cannot start, or that must stop."""


class RecordError(FlagbtError):
    """A run folder that cannot be written or read."""


def quoted_value(value: object, longest: int = 60) -> str:
    """Return a value for a message: its code on one line and cut, or its type where that is not readable.

    Examples
    --------
    >>> quoted_value(2.5), quoted_value("x" * 70, longest=10), quoted_value(object())
    ('2.5', "'xxxxxx...", 'a value of type object')
    """
    try:
        text = repr(value)
    except Exception:  # of a user's class
        text = ""
    if not text or "\n" in text or " at 0x" in text:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


_LONGEST_WORD = 1000  # a path is shorter


def _one_paragraph(message: str) -> str:
    """Return a message on one line: a user's text in it may have several lines, or a million characters without a blank."""
    line = " ".join(message.split())
    line = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
    return re.sub(rf"(\S{{200}})\S{{{_LONGEST_WORD - 200},}}", r"\1...", line)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known name, or with all of them when none is near.

    Examples
    --------
    >>> nearest("Jan91", ["Jan4", "Jan19"])
    "Did you mean 'Jan19'?"
    >>> nearest("zzz", ["b", "a"])
    'Known: a, b.'
    >>> nearest("zzz", [])
    'None is known.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        found = next(n for n in names if n.lower() == close[0])
        return f"Did you mean '{found}'?"
    return f"Known: {', '.join(names)}." if names else "None is known."


# Options, and the names that users of other programs type for them; the first one that a command has is meant.
_SYNONYMS: tuple[tuple[str, str], ...] = (
    ("learning-rate", "lr lrate learn-rate eta step-size learningrate"),
    ("epochs", "epoch num-epochs n-epochs num-train-epochs max-epochs nb-epochs iterations"),
    ("batch-size", "bs batch batches batchsize per-device-train-batch-size train-batch-size minibatch"),
    ("fee-bps", "fee fees commission commissions comm cost costs maker-fee taker-fee trading-fee fee-rate"),
    ("slippage-bps", "slippage slip spread"),
    ("borrow-bps-per-day", "borrow funding funding-rate interest borrow-rate"),
    ("since", "start from begin start-date date-from"),
    ("until", "end to stop end-date date-to"),
    ("timerange", "start end from to begin start-date end-date date-from date-to dates date range period since until years"),
    ("cash", "capital balance wallet money equity budget account stake stake-amount starting-cash initial-cash dry-run-wallet"),
    ("cash", "starting-capital initial-capital starting-balance"),
    ("ckpt", "checkpoint checkpoints model model-name model-path model-name-or-path weights adapter freqaimodel"),
    ("base", "model model-name model-path model-name-or-path base-model pretrained"),
    ("name", "model run-name title tag label id"),
    ("output", "out output-dir outdir out-dir save save-dir dest destination target export export-filename outfile o"),
    ("out", "output output-dir outdir out-dir save save-dir dest destination runs-dir folder export user-data-dir userdir"),
    ("data", "datadir data-dir dataset dataset-name input file csv bars train-file train-data prices ohlcv"),
    ("symbol", "pair pairs ticker instrument market coin"),
    ("timeframe", "tf interval freq frequency resolution step"),
    ("stop-loss", "sl stoploss stop trailing-stop"),
    ("take-profit", "tp takeprofit roi minimal-roi profit"),
    ("short", "shorts allow-short allow-shorts can-short long-short shorting"),
    ("strategy", "strat algo algorithm strategy-name s"),
    ("decision", "threshold argmax rule"),
    ("signals", "signal signals-file signal-file predictions prediction preds"),
    ("validation", "val valid eval dev validation-data validation-range test-size val-split validation-split"),
    ("holdout", "hold-out test test-size out-of-sample oos"),
    ("lora-rank", "rank r lora-r lora"),
    ("lora-layers", "target-modules lora-target"),
    ("preset", "arch architecture size"),
    ("device", "gpu gpus cuda cpu use-cpu no-cuda accelerator"),
    ("seed", "random-state random-seed rng"),
    ("objective", "loss loss-function criterion"),
    ("weight-strategy", "class-weights class-weight weights"),
    ("notes", "note comment comments description"),
    ("workers", "jobs n-jobs job-workers num-workers processes threads parallel j"),
    ("labels", "label target horizon"),
    ("horizon-bars", "horizon"),
    ("resume", "resume-from-checkpoint resume-from continue"),
    ("overwrite", "force replace overwrite-output-dir"),
    ("features", "feature columns feature-set indicators"),
    ("config", "config-file settings cfg conf c"),
    ("report-to", "tensorboard wandb logger"),
    ("json", "json-output format as-json"),
)


def option_alike(text: str, known: Iterable[str]) -> str | None:
    """Return the known option that ``text`` means or resembles; None where there is none.

    Examples
    --------
    >>> option_alike("--lr", ["--labels", "--learning-rate"])
    '--learning-rate'
    >>> option_alike("fees", ["fee_bps", "cash"])
    'fee_bps'
    >>> option_alike("--fee-bsp", ["--fee-bps"]), option_alike("--zzz", ["--fee-bps"])
    ('--fee-bps', None)
    >>> option_alike("--label", ["--labels", "--name"]), option_alike("--max-short", ["--max-short-notional"])
    ('--labels', '--max-short-notional')
    >>> option_alike("--dropout", ["--out"]), option_alike("--steps", ["--notes"]), option_alike("--lrate", ["--strategy"])
    (None, None, None)
    """
    names = {_plain_option(name): name for name in known}
    typed = _plain_option(text)
    if (same := same_option(text, names)) is not None:
        return names[same]
    longer = [name for name in names if len(typed) > 2 and name.startswith(typed)]
    # Below this cutoff, similar names mean different things: --dropout is not --out, nor --steps --notes.
    close = longer if len(longer) == 1 else difflib.get_close_matches(typed, names, n=1, cutoff=0.7)
    return names[close[0]] if close else None


def same_option(text: str, known: Iterable[str]) -> str | None:
    """Return the known option of the same name, of one letter off, or of the same meaning; None where there is none.

    Examples
    --------
    >>> same_option("--commission", ["--cash", "--fee-bps"]), same_option("--fee-bsp", ["--fee-bps"])
    ('--fee-bps', None)
    """
    names = {_plain_option(name): name for name in known}
    typed = _plain_option(text)
    if close := difflib.get_close_matches(typed, names, n=1, cutoff=0.9):  # --label is --labels, not --name
        return names[close[0]]
    return next((names[option] for option, synonyms in _SYNONYMS if option in names and typed in synonyms.split()), None)


def _plain_option(text: str) -> str:
    return text.lstrip("-").lower().replace("_", "-")


def kind_of(value: object) -> str:
    """Return what a value of a wrong type is, for a message.

    Examples
    --------
    >>> [kind_of(value) for value in (3, [3], None, "")]
    ['an int', 'a list', 'None', 'an empty text']
    """
    if value is None or (isinstance(value, str) and not value):
        return "None" if value is None else "an empty text"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' or name == 'ndarray' else 'a'} {name}"


def check_choice(option: str, value: str, known: Iterable[str]) -> None:
    """Refuse a value that is not one of the known ones.

    Raises
    ------
    UsageError
        Naming the option, the value and the nearest known one.
    """
    names = list(known)
    if value not in names:
        raise UsageError(f"{option}: '{value}' is unknown. {nearest(value, names)}")


def check_known(function: str, given: Iterable[str], known: Iterable[str], fields: Mapping[str, str] | None = None) -> None:
    """Refuse arguments that a function does not take.

    Parameters
    ----------
    fields : mapping, optional
        Names that belong into another argument, and how to write them there.

    Raises
    ------
    UsageError
        Naming the argument and the nearest known one.
    """
    names = list(known)
    for name in given:
        if name in names:
            continue
        if name in (fields or {}):
            raise UsageError(f"{function}: {name} is given as {(fields or {})[name]}.")
        alike = option_alike(name, [*names, *(fields or {})])
        if alike is not None:
            alike = (fields or {}).get(alike, alike)
        hint = f"Did you mean {alike}?" if alike is not None else nearest(name, names)
        raise UsageError(f"{function}: there is no argument '{name}'. {hint}")


def known_arguments(name: str, *more: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator of a public function, ``name`` in the message, that refuses an unknown keyword argument.

    ``more`` are the names that it takes by ``**``.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        parameters = inspect.signature(function).parameters.values()
        known = {each.name: None for each in parameters if each.name != "self" and each.kind is not each.VAR_KEYWORD}
        known |= dict.fromkeys(more)

        @wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if not kwargs.keys() <= known.keys():  # a sweep makes costs and rules for every setting
                check_known(name, kwargs, known)
            return function(*args, **kwargs)

        return checked

    return decorate


def moved_arguments(remedy: str, *names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that refuses keyword arguments which a function took in an earlier version.

    Parameters
    ----------
    remedy : str
        A sentence with the new place.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            moved = [f"{name}=" for name in names if name in kwargs]
            if moved:
                raise UsageError(f"{function.__name__} no longer takes {', '.join(moved)}. {remedy}")
            return function(*args, **kwargs)

        return checked

    return decorate


@contextmanager
def python_words() -> Iterator[None]:
    """Write the options that an error names as the arguments of a function: ``--fee-bps 5`` as ``fee_bps=5``.

    In a notebook without ipywidgets, transformers warns about progress bars, which flagbt does not show: that warning is left
    out.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    except FlagbtError as error:
        error.args = (_python_words(str(error)),)
        raise


def _python_words(text: str) -> str:
    """Return a message with arguments in place of options.

    Examples
    --------
    >>> _python_words("--strategy flagtrader needs a checkpoint: add --ckpt NAME.")
    'strategy flagtrader needs a checkpoint: add checkpoint=NAME.'
    >>> _python_words("--allow-overlap trades them; --short: it goes long only.")
    'allow_overlap=True trades them; short: it goes long only.'
    >>> _python_words("--ckpt: import it with flagbt ckpt import FILE --name NAME. Choose another --ckpt.")
    'checkpoint: import it with flagbt ckpt import FILE --name NAME. Choose another checkpoint.'
    >>> _python_words("State it: --columns close=Price, --time-format '%d.%m.%Y', or --symbol BTC-USD.")
    "State it: columns='close=Price', time_format='%d.%m.%Y', or symbol='BTC-USD'."
    """

    def argument(found: re.Match[str]) -> str:
        if re.search(r"\bflagbt [a-z]", re.split(r"[.;] |[()]", text[: found.start()])[-1]):
            return found[0]  # of a command for a shell
        name = {"ckpt": "checkpoint", "param": "params"}.get(found[1], found[1].replace("-", "_"))
        value = (found[2] or "").strip()
        if name in _TEXTS:
            return f"{name}={value.strip(chr(39))!r}" if value else name
        if value and (value[0].isupper() or value[0].isdecimal()):
            return f"{name}={value}"
        if value:
            return f"{name} {value}"
        return f"{name}=True" if name in _FLAGS and not text.startswith(":", found.end()) else name

    return re.sub(r"(?<![\w-])--([a-z][a-z-]*)( '[^']*'| [a-z_]+=[\w=,+./-]*\w| [A-Z0-9][\w./:-]*\w)?", argument, text)


_TEXTS = ("columns", "time_format", "time_zone", "symbol", "closed_hours")
_FLAGS = ("allow_overlap", "short", "force", "overwrite", "yes", "resume")
