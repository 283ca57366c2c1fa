"""Hostile ONNX files: no other file is read, no foreign operator is loaded, memory and time are bounded.

What could fill the memory, not end, or crash Python runs in another process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto as Types
from onnx import helper
from onnx_models import WIDTH, Convolved, exported, graph, linear, scored, softmax, stated, tensor, written

from flagbt.errors import CheckpointError
from flagbt.models.importing import import_model
from flagbt.models.kinds.onnx_graph import DEEPEST, LARGEST_BYTES, walk_model
from flagbt.models.kinds.onnx_session import LARGEST_MEMORY_BYTES

TIMES = helper.make_node("MatMul", ["x", "w"], ["y"])
IDENTITY = helper.make_node("Identity", ["h"], ["y"])


def outside(location: str) -> onnx.TensorProto:
    """Return an initialiser (WIDTH, 3) whose numbers lie in another file."""
    made = Types(name="w", data_type=Types.FLOAT, dims=[WIDTH, 3], data_location=Types.EXTERNAL)
    made.external_data.add(key="location", value=location)
    return made


def in_a_constant(value: onnx.TensorProto) -> onnx.ModelProto:
    """Return a model whose weights are an attribute of a node."""
    return graph([helper.make_node("Constant", [], ["w"], value=value), TIMES])


def in_a_branch(value: onnx.TensorProto, depth: int = 1) -> onnx.ModelProto:
    """Return a model whose weights lie in a graph within a node, some levels deep."""
    node, result = helper.make_node("Constant", [], ["c0"], value=value), "c0"
    for level in range(1, depth + 1):
        inner = helper.make_graph([node], f"g{level}", [], [helper.make_tensor_value_info(result, Types.FLOAT, None)])
        result = f"c{level}"
        zero = helper.make_node("Constant", [], ["z"], value=tensor("z", np.zeros((WIDTH, 3))))
        other = helper.make_graph([zero], f"e{level}", [], [helper.make_tensor_value_info("z", Types.FLOAT, None)])
        node = helper.make_node("If", ["on"], [result], then_branch=inner, else_branch=other)
    return graph([node, helper.make_node("MatMul", ["x", result], ["y"])], [tensor("on", True, Types.BOOL)])


def test_the_canary_would_sing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ONNX Runtime alone did not read another file, the tests below could not fail."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(linear().tobytes())
    session = onnxruntime.InferenceSession(graph([TIMES], [outside("secret")]).SerializeToString())
    assert np.array_equal(session.run(None, {"x": np.eye(WIDTH, dtype=np.float32)})[0], linear())


@pytest.mark.parametrize("location", ["secret", "../../etc/passwd", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "link", ""])
@pytest.mark.parametrize("place", ["initialiser", "constant", "branch", "merged", "sparse"])
def test_no_other_file_is_read(location: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model from another person would read any file of the user, or any address of the process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(linear().tobytes())
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    value = outside(location)
    model = {
        "initialiser": lambda: graph([TIMES], [value]),
        "constant": lambda: in_a_constant(value),
        "branch": lambda: in_a_branch(value, 3),
        "merged": lambda: graph([TIMES], [tensor("w", linear())]),
        "sparse": lambda: graph([TIMES], [tensor("w", linear())]),
    }[place]()
    content = model.SerializeToString()
    if place == "merged":  # a second graph in the file: protobuf adds its parts to the first
        content += onnx.ModelProto(graph=onnx.GraphProto(initializer=[value])).SerializeToString()
    if place == "sparse":
        sparse = onnx.SparseTensorProto(values=value, indices=tensor("i", [0], Types.INT64), dims=[WIDTH, 3])
        content += onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse])).SerializeToString()
    with pytest.raises(CheckpointError, match="lies in another file|sparse tensors"):
        import_model(written(tmp_path / "evil.onnx", content), tmp_path / "mine", stated())
    assert not (tmp_path / "mine").exists()


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def message(number: int, content: bytes, tag: bytes | None = None) -> bytes:
    """Return a field that is a message; ``tag`` in another spelling."""
    return (tag or varint(number << 3 | 2)) + varint(len(content)) + content


@pytest.mark.parametrize(
    "location",
    [
        varint(14 << 3) + varint(1),
        varint(14 << 3) + varint(2**32 + 1),  # protobuf keeps the lower 32 bits
        varint(14 << 3) + b"\x81\x80\x80\x80\x80\x00",
        varint(14 << 3) + varint(1) + varint(14 << 3) + varint(0),
        message(13, b"", b"\xea\x80\x00"),  # the same tag in a longer spelling
        message(13, b"", b"\xea\x80\x80\x80\x10"),  # beyond 32 bits, which other readers cut off
    ],
)
def test_other_spellings_hide_nothing(location: bytes) -> None:
    """A reader that differs from protobuf would let external data through."""
    plain = tensor("w", linear()).SerializeToString()
    model = graph([TIMES]).SerializeToString() + message(7, message(5, plain + location))
    with pytest.raises(ValueError, match="lies in another file|not those of an ONNX model"):
        walk_model(model)


def laughing() -> onnx.ModelProto:
    """Return a model of local functions, each of which calls the one before twice: 2 ** 40 nodes."""
    functions = []
    for level in range(40):
        inner = "Identity" if level == 0 else f"F{level - 1}"
        nodes = [helper.make_node(inner, [a], [b], domain="" if level == 0 else "evil") for a, b in (("a", "b"), ("b", "c"))]
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("evil", 1)]
        functions.append(helper.make_function("evil", f"F{level}", ["a"], ["c"], nodes, opsets))
    model = scored(helper.make_node("F39", ["h"], ["y"], domain="evil"))
    model.functions.extend(functions)
    return model


def looping() -> onnx.ModelProto:
    """Return a model with a loop that never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", Types.INT64), ("c", Types.BOOL))]
        + [helper.make_tensor_value_info("v", Types.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("c2", Types.BOOL, []), helper.make_tensor_value_info("v2", Types.FLOAT, ["N", 3])],
    )
    return scored(helper.make_node("Loop", ["", "on", "h"], ["y"], body=body), initializers=[tensor("on", True, Types.BOOL)])


def claiming() -> onnx.ModelProto:
    """Return a model with a tensor of a million million numbers, in four bytes."""
    return graph([TIMES], [Types(name="w", data_type=Types.FLOAT, dims=[10**6, 10**6], raw_data=b"abcd")])


def training() -> onnx.ModelProto:
    """Return a model with a graph of its training."""
    model = scored(IDENTITY)
    model.training_info.append(onnx.TrainingInfoProto(initialization=model.graph))
    return model


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "functions that expand": (laughing, "domain 'evil'|local functions"),
    "a loop": (looping, "operator Loop is not run: it repeats a graph"),
    "a random output": (lambda: scored(helper.make_node("RandomNormalLike", ["h"], ["y"])), "RandomNormalLike .* random"),
    "a claim": (claiming, "claims 1,000,000,000,000 numbers and holds"),
    "graphs in graphs": (lambda: in_a_branch(tensor("w", linear()), DEEPEST + 1), f"more than {DEEPEST} levels"),
    "a training": (training, "graphs of its training"),
    "many nodes": (lambda: b"\x3a" + (body := b"\x0a\x00" * 100_001, varint(len(body)) + body)[1], "more than 100,000 nodes"),
    "many axes": (lambda: message(7, message(5, message(1, b"\x01" * 10**7))), "more than 100 axes"),
    "an operator of the runtime": (
        lambda: scored(helper.make_node("EPContext", ["h"], ["y"], domain="com.microsoft", ep_cache_context="../secret")),
        "domain 'com.microsoft'",
    ),
    "the runtime's own format": (lambda: b"\x20\0\0\0ORTM" + b"\0" * 100, "not those of an ONNX model"),
    "groups": (lambda: b"\x0b\x0c", "not those of an ONNX model"),
    "a length beyond its end": (lambda: b"\x3a\xff\xff\xff\xff\x0f" + b"a" * 50, "not those of an ONNX model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_harm_is_refused_before_it_is_opened(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would expand, repeat or allocate without limit."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was opened"))
    make, words = REFUSED[case]
    content = make()
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=words) as caught:
        import_model(written(tmp_path / "evil.onnx", content), tmp_path / "mine", stated())
    assert time.monotonic() - started < 20
    assert len(str(caught.value)) < 700
    assert [each.name for each in tmp_path.iterdir()] == ["evil.onnx"]


def test_a_file_of_small_fields_does_not_hold_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk through 500 MB of empty fields would take minutes."""
    monkeypatch.setattr("flagbt.models.kinds.onnx_graph.MOST_FIELDS", 10_000)
    with pytest.raises(ValueError, match="more than 10,000 fields"):
        walk_model(message(7, b"\x98\x06\x00" * 10_001))
    assert walk_model(scored(IDENTITY).SerializeToString()).fields < 100


def test_a_file_of_the_runtimes_own_format_in_disguise(tmp_path: Path) -> None:
    """A file that is both would be walked through as one format and run as the other."""
    content = scored(IDENTITY).SerializeToString()
    assert content[:2] == b"\x08\x0a"
    disguised = b"\x08\x0a" + message(2, b"ORTM")[:2] + b"ORTM" + content[2:]
    assert disguised[4:8] == b"ORTM"
    import_model(written(tmp_path / "both.onnx", disguised), tmp_path / "mine", stated())


@pytest.mark.parametrize("kind", ["pipe", "folder", "large"])
def test_a_file_that_cannot_be_a_model(kind: str, tmp_path: Path) -> None:
    """Reading a pipe would hang, and a sparse file of four gigabytes fill the memory."""
    path = tmp_path / "evil.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2**32)
    words = {"pipe": "not a regular file", "folder": "not a regular file|directory", "large": f"at most {LARGEST_BYTES:,}"}
    with pytest.raises(CheckpointError, match=words[kind]):
        import_model(path, tmp_path / "mine", stated(), kind="onnx")


IN_ANOTHER_PROCESS = """
import json, resource, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from flagbt.errors import FlagbtError
from flagbt.models.importing import import_model
from flagbt.models.kinds import onnx_session
from onnx_models import stated
onnx_session.LONGEST_CALL_S = {seconds}
folder, found = Path({folder!r}), []
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(folder.glob("*.onnx")):
    started = time.monotonic()
    try:
        import_model(path, folder / "mine", stated({form!r}), overwrite=True)
        result = "read"
    except FlagbtError as error:
        result = str(error)
    found.append([path.name, result, time.monotonic() - started])
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps([found, grown]))
"""


def in_another_process(
    folder: Path, *, seconds: float = 60.0, form: str = "logits"
) -> tuple[list[tuple[str, str, float]], int]:
    """Import every model of a folder in another process: (name, message or "read", seconds) of each, bytes grown."""
    support = str(Path(__file__).parents[1] / "support")
    code = IN_ANOTHER_PROCESS.format(path=[support], folder=str(folder), seconds=seconds, form=form)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, grown = json.loads(done.stdout.splitlines()[-1])
    return found, grown


def filled(*nodes: onnx.NodeProto, size: list[int], **rest: Any) -> onnx.ModelProto:
    """Return a model that adds the sum of what the nodes make of a tensor of zeros to its logits."""
    first = helper.make_node("ConstantOfShape", ["size"], ["big"])
    last = [helper.make_node("ReduceSum", ["end"], ["sum"], keepdims=0), helper.make_node("Add", ["h", "sum"], ["y"])]
    return scored(first, *nodes, *last, initializers=[tensor("size", size, Types.INT64), *rest.pop("initializers", ())])


def bombs() -> dict[str, onnx.ModelProto]:
    """Return small files that make tensors of terabytes."""
    node = helper.make_node
    times = [tensor("times", [10**9], Types.INT64)]
    return {
        "filled": filled(node("Identity", ["big"], ["end"]), size=[10**12]),
        "tiled": filled(node("Tile", ["big", "times"], ["end"]), size=[10**3], initializers=times),
        "expanded": filled(
            node("Expand", ["big", "shape"], ["end"]), size=[1], initializers=[tensor("shape", [10**6, 10**6], Types.INT64)]
        ),
        "ranged": filled(
            node("Range", ["from", "to", "step"], ["end"]),
            size=[1],
            initializers=[tensor("from", 0.0), tensor("to", 1e12), tensor("step", 1.0)],
        ),
        "outer": filled(
            node("Unsqueeze", ["big", "axis"], ["tall"]),
            node("Add", ["big", "tall"], ["end"]),
            size=[10**6],
            initializers=[tensor("axis", [1], Types.INT64)],
        ),
        "one_hot": filled(
            node("OneHot", ["index", "depth", "pair"], ["end"]),
            size=[1],
            initializers=[
                tensor("index", np.zeros(1000), Types.INT64),
                tensor("depth", 10**9, Types.INT64),
                tensor("pair", [0.0, 1.0]),
            ],
        ),
        "padded": filled(
            node("Pad", ["big", "pads"], ["end"]), size=[1], initializers=[tensor("pads", [0, 10**12], Types.INT64)]
        ),
        "resized": filled(
            node("Resize", ["big", "", "", "sizes"], ["end"], mode="nearest"),
            size=[1],
            initializers=[tensor("sizes", [10**12], Types.INT64)],
        ),
        "batched": graph([TIMES], [tensor("w", linear())], shape=(10**9, WIDTH)),
        "wide": graph([TIMES], [tensor("w", linear())], shape=("N", 10**9)),
    }


def test_bombs_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A file of two hundred bytes would end the user's session."""
    for name, model in bombs().items():
        written(tmp_path / f"{name}.onnx", model)
    found, grown = in_another_process(tmp_path)
    assert [name for name, result, _ in found if result == "read"] == []
    assert max(seconds for *_, seconds in found) < 20, found
    assert grown < LARGEST_MEMORY_BYTES / 4
    assert {name for name, result, _ in found if "smaller than requested" in result} >= {
        f"{name}.onnx" for name in ("filled", "expanded", "ranged", "outer", "one_hot", "padded", "resized")
    }


def test_a_model_that_does_not_end_is_left(tmp_path: Path) -> None:
    """A convolution of 10 ** 14 products, which nothing can interrupt, would hold the command for days."""
    convolved = filled(
        helper.make_node("ConstantOfShape", ["kernel_size"], ["kernel"]),
        helper.make_node("Conv", ["big", "kernel"], ["end"]),
        size=[1, 1, 10**8],
        initializers=[tensor("kernel_size", [1, 1, 10**6], Types.INT64)],
    )
    chained = filled(
        *(helper.make_node("MatMul", [f"m{i}" if i else "big", "big"], [f"m{i + 1}"]) for i in range(500)),
        helper.make_node("Identity", ["m500"], ["end"]),
        size=[2000, 2000],
    )
    written(tmp_path / "chained.onnx", chained)
    written(tmp_path / "convolved.onnx", convolved)
    found, _ = in_another_process(tmp_path, seconds=1.0)
    assert [name for name, result, _ in found if "takes longer than 1 s" in result] == ["chained.onnx", "convolved.onnx"], found
    assert max(seconds for *_, seconds in found) < 10


@pytest.mark.parametrize("which", ["linear", "convolved", "forest"])
def test_damaged_files_are_read_or_refused(which: str, tmp_path: Path) -> None:
    """A flipped bit or a cut would crash Python, fill the memory or end in a traceback."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(2)
    rows = random.normal(size=(200, WIDTH)).astype(np.float32)
    whole = {
        "linear": lambda: scored(softmax()).SerializeToString(),
        "convolved": lambda: exported(Convolved().eval(), (4, WIDTH, 7)),
        "forest": lambda: to_onnx(
            RandomForestClassifier(2, max_depth=3, random_state=0).fit(rows, np.arange(200) % 3),
            rows[:1],
            options={"zipmap": False},
        ).SerializeToString(),
    }[which]()
    for i in range(150):
        content = bytearray(whole)
        if i % 3 == 0:
            content = content[: random.integers(0, len(whole))]
        elif i % 3 == 1:
            content[random.integers(0, len(whole))] ^= 1 << random.integers(0, 8)
        else:
            for at in random.integers(0, len(whole), 4):
                content[at] = random.integers(0, 256)
        written(tmp_path / f"{i:03}.onnx", bytes(content))
    found, grown = in_another_process(tmp_path, form="probabilities", seconds=20)
    assert len(found) == 150
    assert sum(result != "read" for _, result, _ in found) > 50
    assert max(seconds for *_, seconds in found) < 30
    assert grown < 1_000_000_000


def test_a_reader_of_fields_never_fails_otherwise() -> None:
    """Bytes that are not protobuf would end in an IndexError or a loop."""
    random = np.random.default_rng(5)
    whole = scored(softmax()).SerializeToString()
    for _ in range(3000):
        content = bytearray(whole)
        for at in random.integers(0, len(whole), random.integers(1, 6)):
            content[at] = random.integers(0, 256)
        try:
            walk_model(bytes(content[: random.integers(0, len(whole) + 1)]))
        except ValueError as error:
            assert str(error).endswith(".")  # noqa: PT017  # most are refused, some are read


def test_a_downloaded_folder_has_the_same_limits(tmp_path: Path) -> None:
    """A folder with matching digests, made by another person, would be opened without the walk."""
    from hashlib import sha256

    from flagbt.models.checkpoint import read_checkpoint

    folder = import_model(written(tmp_path / "a.onnx", scored(IDENTITY)), tmp_path / "a", stated()).folder
    evil = looping().SerializeToString()
    (folder / "model.onnx").write_bytes(evil)
    path = folder / "checkpoint.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["files"]["model.onnx"] = sha256(evil).hexdigest()
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match="operator Loop is not run"):
        read_checkpoint(folder).model.logits_of_rows(np.zeros((3, WIDTH), dtype=np.float32))  # type: ignore[attr-defined]
