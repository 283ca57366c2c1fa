"""A skops file, read and checked here before skops sees it: a zip archive with ``schema.json`` and arrays.

The schema is a tree of nodes; each names its loader and a type, which skops imports and fills. A file of anyone may name any
type, and skops itself warns that a trusted type does not make its content safe. So every node must be of a loader and a type
in the lists below, which is what scikit-learn's own classifiers consist of: no function, method, partial, bytes, object of
another package or array of Python objects by pickle. The archive that is loaded is put together here from what was checked,
with entries in order, so that the same model has the same bytes: skops names nodes and files by their place in the memory.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...arrays import JsonObject, JsonValue
from ...errors import quoted_value

SCHEMA = "schema.json"
LARGEST_BYTES = 200_000_000  # of the file, and of what it unpacks to
DEEPEST = 120  # nested nodes; a stack of pipelines has about 30
_MOST_FILES = 200_000
_FILE = re.compile(r"[0-9a-f-]{1,40}\.npy")
_NUMPY = "ndarray float64 float32 int64 int32 int8 uint8 uint32 uint64 bool bool_ str_"
_PLAIN: dict[str, dict[str, str]] = {  # loader -> module -> names
    "JsonNode": {"builtins": "str"},
    "ListNode": {"builtins": "list"},
    "TupleNode": {"builtins": "tuple"},
    "DictNode": {"builtins": "dict", "sklearn.utils._bunch": "Bunch"},
    "SliceNode": {"builtins": "slice"},
    "TypeNode": {"builtins": "str int float bool", "numpy": _NUMPY.removeprefix("ndarray ")},
    "NdArrayNode": {"numpy": _NUMPY},
    "DTypeNode": {"numpy": "dtype"},
    "RandomStateNode": {"numpy.random.mtrand": "RandomState"},
    "RandomGeneratorNode": {"numpy.random._generator": "Generator"},
    "FunctionNode": {"sklearn.feature_selection._univariate_selection": "f_classif"},
    "TreeNode": {"sklearn.tree._tree": "Tree"},
}
_SKLEARN: dict[str, str] = {  # package -> classes, in it or in a private module of it
    "sklearn._loss": "HalfMultinomialLoss HalfBinomialLoss MultinomialLogit LogitLink Interval CyHalfMultinomialLoss "
    "CyHalfBinomialLoss",
    "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration",
    "sklearn.compose": "ColumnTransformer",
    "sklearn.decomposition": "PCA TruncatedSVD",
    "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "sklearn.dummy": "DummyClassifier",
    "sklearn.ensemble": "RandomForestClassifier ExtraTreesClassifier GradientBoostingClassifier "
    "HistGradientBoostingClassifier _BinMapper TreePredictor BaggingClassifier AdaBoostClassifier VotingClassifier "
    "StackingClassifier",
    "sklearn.feature_selection": "SelectKBest SelectPercentile SelectFromModel VarianceThreshold RFE",
    "sklearn.impute": "SimpleImputer MissingIndicator",
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.linear_model": "LogisticRegression LogisticRegressionCV SGDClassifier Log Hinge ModifiedHuber",
    "sklearn.multiclass": "OneVsRestClassifier",
    "sklearn.naive_bayes": "GaussianNB BernoulliNB",
    "sklearn.neural_network": "MLPClassifier AdamOptimizer SGDOptimizer",
    "sklearn.pipeline": "Pipeline FeatureUnion",
    "sklearn.preprocessing": "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler PowerTransformer QuantileTransformer "
    "PolynomialFeatures KBinsDiscretizer OneHotEncoder Binarizer Normalizer FunctionTransformer LabelBinarizer LabelEncoder",
    "sklearn.tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
}
_OF_SKLEARN = ("ObjectNode", "LossNode")
_LEAVES = ("JsonNode", "TypeNode")


class UntrustedTypeError(ValueError):
    """A type, or a loader, that is not in the lists above."""


@dataclass
class SkopsFile:
    """A checked file.

    Attributes
    ----------
    content : bytes
        The archive to load and to store.
    types : set of str
        The types that it names, all of them in the lists above.
    versions : set of str
        Versions of scikit-learn that its estimators state.
    numbers : int
        How many numbers its arrays hold.
    """

    content: bytes = b""
    types: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    numbers: int = 0


def check_skops(content: bytes) -> SkopsFile:
    """Check an archive, and return it put together again.

    Raises
    ------
    UntrustedTypeError
        For a type or a loader that is not in the lists above.
    ValueError
        Describing any other problem.
    """
    schema, arrays = _unpacked(content)
    found = SkopsFile()
    walk = _Walk(found, arrays)
    checked = walk.node(schema, 0)
    assert isinstance(checked, dict)  # for mypy: the walk returns what it got
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for old, new in walk.files.items():
            _write(archive, new, arrays[old])
        _write(archive, SCHEMA, json.dumps(checked, indent=1).encode())
    found.content = buffer.getvalue()
    return found


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _unpacked(content: bytes) -> tuple[JsonObject, dict[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names) or len(names) > _MOST_FILES:
                raise ValueError("it has two entries of one name, or too many")
            if sum(entry.file_size for entry in entries) > LARGEST_BYTES:
                raise ValueError(f"it unpacks to more than {LARGEST_BYTES:,} bytes")
            for entry in entries:
                if entry.filename != SCHEMA and not _FILE.fullmatch(entry.filename):
                    raise ValueError(f"it has the entry {quoted_value(entry.filename)}, expected {SCHEMA} and arrays (.npy)")
                if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"its entry {entry.filename} is encrypted, or compressed by another method than deflate")
            if SCHEMA not in names:
                raise ValueError(f"it has no {SCHEMA}")
            schema = json.loads(archive.read(SCHEMA))
            arrays = {name: archive.read(name) for name in names if name != SCHEMA}
    except (zipfile.BadZipFile, RecursionError, EOFError, NotImplementedError, RuntimeError, OSError, zlib.error) as error:
        raise ValueError(f"its archive is damaged ({error})") from None
    if not isinstance(schema, dict):
        raise ValueError(f"its {SCHEMA} is not an object")
    return schema, arrays


class _Walk:
    """Check every node, and give nodes and files numbers in the order of their appearance.

    A node whose number has appeared stands for the first node of that number, whatever it contains: so skops reads it too.
    """

    def __init__(self, found: SkopsFile, arrays: dict[str, bytes]) -> None:
        self.found, self.arrays = found, arrays
        self.ids: dict[int, int] = {}
        self.nodes: dict[int, JsonObject] = {}
        self.files: dict[str, str] = {}

    def node(self, value: JsonValue, depth: int) -> JsonValue:
        """Return a value with other numbers of nodes and files."""
        if depth > 2 * DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} nodes deep")
        if isinstance(value, list):
            return [self.node(each, depth + 1) for each in value]
        if not isinstance(value, dict):
            return value
        if not {"__loader__", "__class__", "__module__"} & value.keys():
            return {key: self.node(each, depth + 1) for key, each in value.items()}
        number = value.get("__id__")
        if value.get("__loader__") != "CachedNode" or number not in self.nodes:
            self.check_type(value)
        if value.get("__loader__") in _LEAVES:  # whether two equal texts are one object depends on the process
            return {key: each for key, each in value.items() if key != "__id__"}
        if number is not None and not (isinstance(number, int) and number > 0):
            raise ValueError("the number of a node of its schema is not a whole number above 0")
        if number in self.nodes:
            names = {key: self.nodes[number][key] for key in ("__class__", "__module__", "__id__")}
            return {**names, "__loader__": "CachedNode"}
        if number in self.ids:
            raise ValueError("a node of its schema contains itself")
        if number is not None:
            self.ids[number] = len(self.ids) + 1
        changed: JsonObject = {key: self.node(each, depth + 1) for key, each in value.items()}
        if number is not None:
            changed["__id__"] = self.ids[number]
            self.nodes[number] = changed
        self.check_content(changed)
        return changed

    def check_type(self, node: JsonObject) -> None:
        """Check a node's loader and type."""
        loader, module, name = (node.get(key) for key in ("__loader__", "__module__", "__class__"))
        if not (isinstance(loader, str) and isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a node of its schema lacks its loader or its type")
        if not _is_listed(loader, module, name):
            raise UntrustedTypeError(f"{module}.{name}" + ("" if loader in (*_PLAIN, *_OF_SKLEARN) else f" (by {loader})"))
        self.found.types.add(f"{module}.{name}")

    def check_content(self, node: JsonObject) -> None:
        """Check what the node's loader trusts."""
        loader = node["__loader__"]
        if loader == "NdArrayNode" and node.get("type") != "json":
            node["file"] = self.array(node.get("file"))
        if loader == "RandomGeneratorNode" and not _is_pcg64(node):
            raise UntrustedTypeError("numpy.random.Generator of another bit generator than PCG64")
        if loader == "DictNode" and isinstance(content := node.get("content"), dict):
            self.found.versions.update(_versions(content))

    def array(self, name: JsonValue) -> str:
        """Return the new name of a file, an array of numbers or text without Python objects."""
        if not isinstance(name, str) or name not in self.arrays:
            raise ValueError(f"its array {quoted_value(name)} is not there")
        if name not in self.files:
            self.found.numbers += _size_of_array(self.arrays[name], name)
            self.files[name] = f"{len(self.files) + 1}.npy"
        return self.files[name]


def _is_listed(loader: str, module: str, name: str) -> bool:
    if loader in _PLAIN:
        return name in _PLAIN[loader].get(module, "").split()
    if loader not in _OF_SKLEARN or ".tests" in module:
        return False
    package = ".".join(module.split(".")[:2])
    is_private = re.fullmatch(rf"{re.escape(package)}(?:\._\w+(?:\.\w+)?|\.\w+)?", module) is not None
    return is_private and name in _SKLEARN.get(package, "").split()


def _is_pcg64(value: JsonObject) -> bool:
    try:
        return value["content"]["bit_generator"]["content"]["bit_generator"]["content"] == '"PCG64"'  # type: ignore[index, call-overload]
    except (KeyError, TypeError):
        return False


def _versions(content: JsonObject) -> Iterator[str]:
    stated = content.get("_sklearn_version")
    if isinstance(stated, dict) and isinstance(text := stated.get("content"), str):
        yield text.strip('"')


def _size_of_array(content: bytes, name: str) -> int:
    """Return the number of elements, checked against the bytes that are there, so that no header reserves more memory."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, EOFError, KeyError, TypeError, SyntaxError) as error:
        raise ValueError(f"its array {name} is damaged ({error})") from None
    if dtype.hasobject:
        raise UntrustedTypeError(f"Python objects by pickle, in the array {name}")
    size = 1
    for each in shape:
        size *= int(each)
    if size < 0 or size * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"its array {name} has {len(content) - stream.tell():,} bytes, its header announces another number")
    return size
