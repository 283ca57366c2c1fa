"""OwnerOptions: what the owner of a model states about it, as options of a command or arguments of a function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.time_range import TimeRange
from ..errors import UsageError
from ..options import check_options, known_fields, option
from .kinds import SHORT_OPTIONS

if TYPE_CHECKING:
    from ..data.bars import Bars
    from ..data.feature_schema import FeatureSchema
    from .importing import OwnerDeclaration

NONE_SEEN, UNKNOWN_SEEN = "none", "unknown"  # what an owner may state in place of ranges


@known_fields
@dataclass(frozen=True, kw_only=True)
class OwnerOptions:
    """What no file of a model contains; None where it is not stated.

    Parameters
    ----------
    model : str, optional
        The kind of model, ``KIND`` or ``KIND:ARGUMENT``; by default the kind that recognises the file.
    forecaster : str, optional
        A pre-trained forecaster, in place of ``model`` and of a file: ``fracast`` or ``chronos:PATH``.
    outputs, classes : str, optional
        ``probabilities`` or ``logits``; SELL, HOLD and BUY in the order of the outputs, ``SELL,HOLD,BUY`` by default.
    base : str, optional
        The checkpoint that an adapter belongs to.
    heads, context : int, optional
        Attention heads; bars of a window, 1 for single bars.
    causal : bool, optional
        Whether its attention was causal.
    features, scaler : str, optional
        The feature set; ``none``, or a JSON file with ``mean`` and ``scale``, and optionally ``clip``.
    labels : str, optional
        As ``horizon:6,0.01``.
    trained_on : str, optional
        All bars that it has seen, ``none``, or ``unknown``.
    validated_on : TimeRange, optional
        The part that only chose its epoch.
    text_until : str, optional
        The date of the newest text or foreign series that its base has read, YYYY-MM-DD; ``none``, or ``unknown``.
    """

    model: str | None = option(None, help="The kind, KIND or KIND:ARGUMENT. Default: as the file shows.", group="Model")
    forecaster: str | None = option(None, help="A pre-trained forecaster: fracast, or chronos:PATH, a folder.", group="Model")
    outputs: str | None = option(None, help="What it returns: probabilities or logits.", group="Model")
    classes: str | None = option(None, help="Order of its outputs. Default: SELL,HOLD,BUY.", group="Model")
    base: str | None = option(None, help="The checkpoint that an adapter belongs to.", group="Model")
    heads: int | None = option(None, help="Attention heads, if the file does not state them.", group="Model", minimum=1)
    context: int | None = option(
        None, help="Bars of a window in training; 1 for single bars. A forecaster: 512.", group="Model", minimum=1
    )
    causal: bool | None = option(None, help="Whether its attention was causal.", group="Model")
    features: str | None = option(None, help="The feature set of its training, or module:name.", group="Model")
    scaler: str | None = option(None, help="none, or a JSON file with mean and scale of each column.", group="Model")
    labels: str | None = option(None, help="Its labels: horizon:6,0.01 or triple-barrier:BARS,UP,DOWN.", group="Model")
    trained_on: str | None = option(
        None, help="All bars it has seen, or none, or unknown; no test may touch them.", group="What it has seen", unit="A-B"
    )
    validated_on: TimeRange | None = option(None, help="Bars that only chose its epoch, if known.", group="What it has seen")
    text_until: str | None = option(
        None,
        help="Date of the newest text or foreign series its base has read, or none, or unknown.",
        group="What it has seen",
        unit="YYYY-MM-DD",
    )

    def __post_init__(self) -> None:
        check_options(self)
        stated = [name for name in ("model", *SHORT_OPTIONS) if getattr(self, name)]
        if len(stated) > 1:
            raise UsageError(f"--{stated[1]}: it names the kind of model already. Leave --{stated[0]} out.")

    @property
    def kind(self) -> str | None:
        """The name of the kind, if it is stated."""
        return self._kind_and_argument()[0] or None

    def _kind_and_argument(self) -> tuple[str, str]:
        """Return what ``model``, or the option of one kind, states; empty texts where it is not stated."""
        short = next(((name, str(getattr(self, name))) for name in SHORT_OPTIONS if getattr(self, name)), None)
        kind, _, argument = (self.model or "").partition(":")
        return short or (kind, argument)

    def declaration(self, bars: Bars | None) -> OwnerDeclaration:
        """Return the statements, read; ``bars`` contain the range that was seen.

        Raises
        ------
        UsageError
            For text that cannot be read.
        """
        from ..data.labels import label_spec
        from .importing import OwnerDeclaration
        from .outputs import read_outputs
        from .text_read import NO_TEXT, UNKNOWN_TEXT, text_date

        word = (self.trained_on or "").strip().lower()
        is_word = word in (NONE_SEEN, UNKNOWN_SEEN)
        text = (self.text_until or "").strip().lower()
        is_text_word = text in (NO_TEXT, UNKNOWN_TEXT)
        return OwnerDeclaration(
            heads=self.heads,
            context_bars=self.context,
            causal=self.causal,
            schema=self._schema(),
            labels=None if self.labels is None else label_spec(self.labels),
            outputs=read_outputs(self.outputs, self.classes),
            seen=None if is_word or self.trained_on is None else _range_seen(self.trained_on),
            seen_text=word if is_word else None,
            validated_on=self.validated_on,
            text_until=None if is_text_word or self.text_until is None else text_date(self.text_until),
            text_word=text if is_text_word else None,
            bars=bars,
            base=self.base,
            argument=self._kind_and_argument()[1],
        )

    def _schema(self) -> FeatureSchema | None:
        """Return the schema of the given columns and scaler; None unless both are given."""
        from ..data.feature_schema import FeatureSchema
        from ..data.features import feature_set
        from ..storage.atomic_files import read_json

        if self.features is None or self.scaler is None:
            return None
        scaler = None if self.scaler == "none" else read_json(Path(self.scaler), what="--scaler")
        return FeatureSchema.stated(feature_set(self.features), scaler)


def _range_seen(text: str) -> TimeRange:
    try:
        return TimeRange.parse(text, option="--trained-on")
    except UsageError as error:
        raise UsageError(f"{error} Where it has seen no bars, write none; where that is not known, unknown.") from None
