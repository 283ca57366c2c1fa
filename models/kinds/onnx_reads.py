"""OnnxReads: what an ONNX graph reads and which of its outputs is used, from its signature and its owner's statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import CheckpointError, UsageError
from ...storage.json_records import JsonRecord
from ..import_checks import check_width

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

    from ..importing import OwnerDeclaration

ROWS, TIME_FIRST, FEATURES_FIRST = "NF", "NTF", "NFT"
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
LARGEST_INPUT = 50_000_000  # numbers of a batch
BATCH_ROWS, BATCH_NUMBERS = 256, 1_000_000


@dataclass(frozen=True, kw_only=True)
class OnnxReads(JsonRecord):
    """How rows are handed to a graph.

    Attributes
    ----------
    output : str
        Name of the output with the scores.
    dtype : str
        ``float32`` or ``float64``.
    layout : str
        ``NF`` for rows; ``NTF`` for windows of T rows, the oldest first, ``NFT`` where their columns come before time.
    n_features, window_bars : int
        Columns; rows of a window, 1 for single rows.
    fixed_batch : int, optional
        The graph's own number of rows or windows a call; None where it takes any.
    """

    output: str
    dtype: str
    layout: str
    n_features: int
    window_bars: int
    fixed_batch: int | None = None

    def __post_init__(self) -> None:
        sizes = self.n_features, self.window_bars, self.batch
        if self.layout not in (ROWS, TIME_FIRST, FEATURES_FIRST) or self.dtype not in TYPES.values():
            raise ValueError(f"it reads {self.dtype} in the layout {self.layout}, which is not known.")
        if min(sizes) < 1 or sizes[0] * sizes[1] * sizes[2] > LARGEST_INPUT or (self.layout == ROWS and self.window_bars > 1):
            raise ValueError(f"it reads {self.batch:,} windows of {self.window_bars:,} bars and {self.n_features:,} columns.")

    @property
    def batch(self) -> int:
        """Rows or windows a call. It is the same for every call, so that no logit depends on the number of rows scored."""
        size = max(1, self.n_features * self.window_bars)
        return self.fixed_batch if self.fixed_batch is not None else max(1, min(BATCH_ROWS, BATCH_NUMBERS // size))

    @property
    def words(self) -> str:
        """What it reads, for a card."""
        what = f"rows of {self.n_features} columns" if self.layout == ROWS else f"windows of {self.window_bars} bars"
        return f"{what} ({self.layout}, {self.dtype})"


def reads_of(session: InferenceSession, declaration: OwnerDeclaration, place: str) -> OnnxReads:
    """Return what a graph reads.

    Raises
    ------
    CheckpointError
        Where it does not read one tensor of rows or windows, or returns no single tensor of numbers.
    UsageError
        Where what was stated does not fit its shape, or its shape leaves open what was not stated.
    """
    taken = session.get_inputs()
    if len(taken) != 1:
        raise CheckpointError(
            f"{place}: the graph has {len(taken)} inputs ({', '.join(each.name[:40] for each in taken[:5])}), expected one "
            "tensor of rows (N, F) or windows (N, T, F). Export it with one input that has all columns."
        )
    given = taken[0]
    shape = given.shape
    if given.type not in TYPES or len(shape) not in (2, 3):
        raise CheckpointError(
            f"{place}: its input {given.name[:40]} is a {given.type} of shape {shape_text(shape)}, expected float or double of "
            "shape (N, F) or (N, T, F). Export it so; skl2onnx takes FloatTensorType([None, F])."
        )
    layout, window, width = _layout(shape, declaration, place)
    if isinstance(width, int):
        check_width(declaration, width)
    if width is None:
        raise UsageError(
            f"{place}: its input has the shape {shape_text(shape)}, which leaves the number of columns open. Give --features "
            "and --scaler."
        )
    try:
        return OnnxReads(
            output=_output(session.get_outputs(), place),
            dtype=TYPES[given.type],
            layout=layout,
            n_features=width,
            window_bars=window,
            fixed_batch=shape[0] if isinstance(shape[0], int) else None,
        )
    except ValueError as error:
        raise CheckpointError(f"{place}: {error} Its input has the shape {shape_text(shape)}, which is not usable.") from None


def shape_text(shape: list[int | str | None]) -> str:
    """Return a shape for a message; a size that the graph leaves open is its name or a question mark."""
    return f"({', '.join('?' if each is None else str(each)[:40] for each in shape)})"


def _layout(shape: list[int | str | None], declaration: OwnerDeclaration, place: str) -> tuple[str, int, int | None]:
    """Return the layout, the rows of a window and the number of columns, None where that is open."""
    columns = None if declaration.schema is None else len(declaration.schema.columns)
    stated = declaration.context_bars
    sizes = [each if isinstance(each, int) else None for each in shape]
    if declaration.argument not in ("", *((ROWS,) if len(sizes) == 2 else (TIME_FIRST, FEATURES_FIRST))):
        known = ROWS if len(sizes) == 2 else f"{TIME_FIRST} or {FEATURES_FIRST}"
        raise UsageError(f"--model: the layout '{declaration.argument}' is not one of {shape_text(shape)}. Known: {known}.")
    if len(sizes) == 2:
        if stated not in (None, 1):
            raise UsageError(
                f"--context: {stated} bars, but its input {shape_text(shape)} has single rows. Leave --context out, or export "
                "the model with windows (N, T, F)."
            )
        return ROWS, 1, sizes[1] if sizes[1] is not None else columns
    fits = []
    for layout, bars, width in ((TIME_FIRST, sizes[1], sizes[2]), (FEATURES_FIRST, sizes[2], sizes[1])):
        right_width = columns is None or width is None or width == columns
        right_bars = stated is None or bars is None or bars == stated
        if right_width and right_bars and declaration.argument in ("", layout):
            fits.append((layout, bars or stated, width or columns, width == columns))
    if sum(exact for *_, exact in fits) == 1 and columns is not None:  # the other one fits because its axis is open
        fits = [each for each in fits if each[-1]]
    shown = f"{place}: its input has the shape {shape_text(shape)}"
    if not fits:
        parts = [f"--context {stated}"] if stated is not None else []
        parts += [f"the {columns} columns of --features"] if columns is not None else []
        raise UsageError(f"{shown}, which does not fit {' and '.join(parts)}. Give those of its training.")
    if len(fits) > 1:
        raise UsageError(
            f"{shown}, which can be (N, T, F) or (N, F, T). State which: --model onnx:{TIME_FIRST} where time comes before the "
            f"columns, or onnx:{FEATURES_FIRST}; or give --context and --features, where they leave one."
        )
    layout, found, wide, _ = fits[0]
    if found is None:
        raise UsageError(f"{shown}, which leaves the bars of a window open. Give --context BARS, as in its training.")
    return layout, found, wide


def _output(returned: list[NodeArg], place: str) -> str:
    """Return the name of the output with the scores: the only tensor of numbers, beside a label at most."""
    kinds = [each.type for each in returned]
    if any(kind.startswith(("seq", "map")) for kind in kinds):
        raise CheckpointError(
            f"{place}: it returns {', '.join(kinds)}, a list of dictionaries (ZipMap), expected a tensor (N, 3). Export it "
            "with options={'zipmap': False}, or onnxmltools' zipmap=False."
        )
    scores = [each.name for each in returned if each.type in (*TYPES, "tensor(float16)")]
    labels = [each for each in returned if each.type in ("tensor(int64)", "tensor(int32)", "tensor(string)")]
    if len(scores) != 1 or len(labels) > 1 or len(scores) + len(labels) != len(returned):
        shown = ", ".join(f"{each.name[:40]} ({each.type} of shape {shape_text(each.shape)})" for each in returned[:5])
        raise CheckpointError(
            f"{place}: it returns {shown}, expected one tensor of scores (N, 3), beside a label at most. Export it with the "
            "scores of the three classes alone."
        )
    return str(scores[0])
