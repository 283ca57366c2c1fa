"""Walk through an ONNX file before ONNX Runtime reads it: what would open another file, run foreign code or not end is refused.

An ONNX file is one protobuf message. A field has a number and is a varint, 4 or 8 bytes, or bytes with their length, which may
be a message again. The numbers below are those of ``onnx.proto``. A field that occurs twice is read each time, since protobuf
merges or overrides it; nothing is computed and no tensor is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LARGEST_BYTES = 500_000_000  # 125 million numbers of 4 bytes
MOST_NODES = 100_000
MOST_FIELDS = 5_000_000  # a forest of 400,000 nodes has 400,000, its lists of numbers aside
MOST_AXES = 100
DEEPEST = 16  # graphs within nodes of graphs
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
# Lists of numbers of an attribute, one field each: trees have millions of them.
_NUMBERS = re.compile(rb"(?:\x3d[\s\S]{4})+|(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+")
_SPARSE = "it holds sparse tensors, which can expand without limit. Export the model with dense ones."
_NO_MODEL = "its bytes are not those of an ONNX model: it was truncated, or is another file."
_NOT_RUN = {
    "Loop": "it repeats a graph as often as it decides itself",
    "SequenceMap": "it repeats a graph",
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
        "its output is random",
    ),
}


@dataclass
class OnnxGraph:
    """What the walk has found.

    Attributes
    ----------
    opsets : dict
        Version of the operators by domain.
    nodes : int
        Nodes of the graph and of the graphs within it.
    numbers : int
        Elements of its tensors and lists of floats: what a model's size is measured by.
    """

    opsets: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    numbers: int = 0
    graphs: int = 0
    fields: int = 0


def walk_model(content: bytes) -> OnnxGraph:
    """Walk through a whole file.

    Raises
    ------
    ValueError
        Where it is not an ONNX model, refers to other files, or has operators that are not run; it states which.
    """
    found = OnnxGraph()
    for number, value in _fields(memoryview(content), found):
        if number == 7:
            found.graphs += 1
            _walk_graph(value, found, 0)
        elif number == 8:
            domain, version = _opset(value, found)
            found.opsets[domain] = version
        elif number == 20:
            raise ValueError("it holds graphs of its training. Export it for inference.")
        elif number == 25:
            raise ValueError(
                "it defines local functions, which can expand without limit. Inline them first: "
                "onnx.inliner.inline_local_functions."
            )
    if not found.graphs or not found.nodes:
        raise ValueError("it holds no graph of operators.")
    return found


def _walk_graph(graph: memoryview, found: OnnxGraph, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"its graphs are nested more than {DEEPEST} levels deep.")
    for number, value in _fields(graph, found):
        if number == 1:
            _walk_node(value, found, depth)
        elif number == 5:
            _walk_tensor(value, found)
        elif number == 15:
            raise ValueError(_SPARSE)


def _walk_node(node: memoryview, found: OnnxGraph, depth: int) -> None:
    found.nodes += 1
    if found.nodes > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES:,} nodes.")
    for number, value in _fields(node, found):
        if number == 4 and (kind := _text(value)) in _NOT_RUN:
            raise ValueError(f"the operator {kind} is not run: {_NOT_RUN[kind]}. Export the model without it.")
        if number == 7 and (domain := _text(value)) not in DOMAINS:
            raise ValueError(_foreign(domain))
        if number == 5:
            for inner, part in _fields(value, found, skips_numbers=True):
                if inner in (5, 10):
                    _walk_tensor(part, found)
                elif inner in (6, 11):
                    _walk_graph(part, found, depth + 1)
                elif inner in (22, 23):
                    raise ValueError(_SPARSE)
                elif inner == 7:
                    found.numbers += len(part) // 4


def _walk_tensor(tensor: memoryview, found: OnnxGraph) -> None:
    elements = 1
    for number, value in _fields(tensor, found):
        if number == 1:
            if len(value) > MOST_AXES * 10:
                raise ValueError(f"a tensor of it has more than {MOST_AXES} axes.")
            for size in _varints(value):
                elements = min(elements * size, 2**63)
        elif number == 13 or (number == 14 and any(_varints(value))):
            raise ValueError(
                "a tensor of it lies in another file (external data), which is not read: a path in a model could lead to any "
                "file. Save it as one file: onnx.save(onnx.load(FILE), NEW, save_as_external_data=False)."
            )
    if elements > 2 * len(tensor):  # the smallest numbers have 4 bits
        raise ValueError(f"a tensor of it claims {elements:,} numbers and holds {len(tensor):,} bytes.")
    found.numbers += elements


def _opset(value: memoryview, found: OnnxGraph) -> tuple[str, int]:
    domain, version = "", 1
    for number, part in _fields(value, found):
        if number == 1:
            domain = _text(part)
        elif number == 2:
            version = next(_varints(part), 1)
    return domain, version


def _fields(message: memoryview, found: OnnxGraph, *, skips_numbers: bool = False) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the bytes of each field; of a varint its own bytes. Lists of an attribute's numbers are counted."""
    at, end = 0, len(message)
    while at < end:
        if skips_numbers and (run := _NUMBERS.match(message, at)):
            found.numbers += (run.end() - at) // 5 if message[at] == 0x3D else 0
            at = run.end()
            continue
        found.fields += 1
        if found.fields > MOST_FIELDS:
            raise ValueError(f"it has more than {MOST_FIELDS:,} fields.")
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        stop = at
        if wire == _VARINT:
            _, stop = _varint(message, at)
        elif wire == _BYTES:
            size, at = _varint(message, at)
            stop = at + size
        elif wire in (_EIGHT, _FOUR):
            stop = at + (8 if wire == _EIGHT else 4)
        if not 0 < tag < 2**32 or not number or stop > end or wire not in (_VARINT, _EIGHT, _BYTES, _FOUR):
            raise ValueError(_NO_MODEL)
        yield number, message[at:stop]
        at = stop


def _varints(value: memoryview) -> Iterator[int]:
    """Yield the varints of a list in one field, or the only one of a field."""
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError(_NO_MODEL)


def _text(value: memoryview) -> str:
    return bytes(value[:100]).decode("utf-8", errors="replace")


def _foreign(domain: str) -> str:
    return (
        f"its operators of the domain '{domain}' are not of ONNX itself, and no library of operators is loaded. Export the "
        "model with operators of ONNX alone (domains ai.onnx and ai.onnx.ml)."
    )
