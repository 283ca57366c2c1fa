"""The kind `python`: a class of the user's own, its weights, what is refused, and that a file alone never makes it run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kinds import served_bars, stated
from own_net import OwnNet
from safetensors.torch import load_file, save_file

from flagbt.data.readers import write_bars_csv
from flagbt.errors import CheckpointError, FlagbtError, StrategyError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.importing import import_model
from flagbt.models.kinds.python_model import PythonModel
from flagbt.models.logit_cache import key_of
from flagbt.models.outputs import Outputs

Command = Callable[..., tuple[int, str, str]]
LOGITS, PROBABILITIES = Outputs("logits"), Outputs("probabilities")
NET = """
import torch
from torch import nn
from {helper} import SCALE

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(30, 3)

    def forward(self, x):
        return SCALE * self.linear(x[:, -1])
"""


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to an empty folder, whose modules can be imported, and forget them afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def weights(**changes: torch.Tensor | None) -> Path:
    """Write the weights of OwnNet, some changed or left out."""
    torch.manual_seed(1)
    tensors = {**OwnNet().state_dict(), **changes}
    save_file({name: each.contiguous() for name, each in tensors.items() if each is not None}, "weights.safetensors")
    return Path("weights.safetensors")


def imported(path: Path | None, code: str, *, context: int = 12, outputs: Outputs = LOGITS, name: str = "net") -> Checkpoint:
    """Import a class of this folder or of own_net.py."""
    facts = stated(context_bars=context, outputs=outputs, argument=code)
    return import_model(path, Path("checkpoints") / name, facts, kind="python")


def net_of(name: str, *, scale: float = 1.0) -> Path:
    """Write a module with a network whose helper module holds its scale, and the network's weights."""
    Path(f"{name}_helper.py").write_text(f"SCALE = {scale}\n")
    Path(f"{name}.py").write_text(NET.format(helper=f"{name}_helper"))
    torch.manual_seed(2)
    save_file(torch.nn.Linear(30, 3).state_dict(prefix="linear."), f"{name}.safetensors")
    return Path(f"{name}.safetensors")


def test_the_logits_are_those_of_the_class_on_each_window() -> None:
    """If it fails, a window is cut, ordered or scaled in another way than at the user's training."""
    checkpoint, bars = imported(weights(), "own_net:OwnNet"), served_bars()
    rows = checkpoint.schema.rows(bars)
    net = OwnNet().eval()
    net.load_state_dict(load_file("weights.safetensors"))
    logits = checkpoint.model.logits(bars, device="cpu")
    first = checkpoint.model.warmup_bars
    assert first == checkpoint.schema.warmup_bars + 11
    with torch.no_grad():
        for t in (first, 700, len(bars) - 1):
            expected = net(torch.from_numpy(rows[None, t - 11 : t + 1]))[0].numpy()
            np.testing.assert_allclose(logits[t], expected, atol=1e-6)


@pytest.mark.parametrize("with_file", [True, False])
def test_a_class_without_torch_reads_rows(with_file: bool) -> None:
    """If it fails, a rule in code, or a model of another library, cannot be brought."""
    path = None
    if with_file:
        path = Path("weight.safetensors")
        save_file({"weight": torch.tensor([2.0])}, path)
    checkpoint, bars = imported(path, "own_net:OwnRule", context=1, outputs=PROBABILITIES), served_bars()
    first = checkpoint.schema.warmup_bars
    z = checkpoint.schema.rows(bars)[first:, :1] * np.array([-1.0, 0.0, 1.0]) * (2.0 if with_file else 1.0)
    expected = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(checkpoint.model.logits(bars)[first:], expected, atol=1e-5)
    assert checkpoint.described.parameters.all == int(with_file)
    with pytest.raises(FlagbtError, match="CPU only"):
        checkpoint.model.logits(bars, device="cuda")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"head.bias": None}, "own_net:OwnNet", ["missing: head.bias"]),
        ({"more": torch.ones(2)}, "own_net:OwnNet", ["unexpected: more"]),
        ({"head.bias": torch.ones(4)}, "own_net:OwnNet", ["'head.bias' has the shape (4,), expected (3,)"]),
    ],
)
def test_weights_of_another_class_are_refused_by_name(change: dict[str, Any], code: str, words: list[str]) -> None:
    """If it fails, a network is run with some of its weights random."""
    with pytest.raises(CheckpointError) as refused:
        imported(weights(**change), code)
    assert all(each in str(refused.value) for each in words), refused.value
    assert not Path("checkpoints/net").exists()


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("def Net():\n    return 1\n", StrategyError, ["expected a class", "a function"]),
        ("class Net:\n    def __call__(self, x):\n        return x\n", StrategyError, ["load_weights(tensors) and __call__"]),
        ("class Net:\n    def __init__(self, n): ...\n", StrategyError, ["neither"]),
        (
            "class Net:\n    def __init__(self, n): ...\n    def load_weights(self, t): ...\n    def __call__(self, x): ...\n",
            StrategyError,
            ["__init__ failed at", "missing 1 required positional argument: 'n'"],
        ),
        (
            "class Net:\n    def load_weights(self, t): ...\n    def __call__(self, x):\n        return x[:, -1, :4]\n",
            CheckpointError,
            ["got (64, 4)"],
        ),
        (
            "class Net:\n    def load_weights(self, t): ...\n    def __call__(self, x):\n        return x[:, -1, :3] * 1e999\n",
            CheckpointError,
            ["logits are not finite"],
        ),
        (
            "class Net:\n    def load_weights(self, t): ...\n    def __call__(self, x):\n        raise KeyError('lost')\n",
            StrategyError,
            ["the call failed at", "line 4", "KeyError: 'lost'"],
        ),
        (
            "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(30, 3)\n",
            CheckpointError,
            ["they are random"],
        ),
        (
            "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return [1]\n",
            StrategyError,
            ["forward returned a list"],
        ),
        ("class Net:\n  oops", StrategyError, ["importing 'bad_"]),
    ],
)
def test_a_class_that_breaks_the_contract_is_named_with_its_place(
    body: str, error: type[FlagbtError], words: list[str], request: pytest.FixtureRequest
) -> None:
    """If it fails, a user's mistake is a traceback inside flagbt, or leaves half a checkpoint."""
    name = f"bad_{abs(hash(request.node.name))}"
    Path(f"{name}.py").write_text(body)
    with pytest.raises(error) as refused:
        imported(None, f"{name}:Net")
    assert all(each in str(refused.value) for each in words), refused.value
    assert "\n" not in str(refused.value)
    assert not Path("checkpoints/net").exists()


@pytest.mark.parametrize("lacking", ["schema", "outputs", "context_bars"])
def test_what_no_file_shows_must_be_stated(lacking: str) -> None:
    """If it fails, the width, the window or the meaning of the outputs is guessed."""
    facts = stated(**{"context_bars": 12, "outputs": LOGITS, "argument": "own_net:OwnNet", lacking: None})
    option = {"schema": "--features", "outputs": "--outputs", "context_bars": "--context"}[lacking]
    with pytest.raises(UsageError, match=option):
        import_model(weights(), Path("checkpoints/net"), facts, kind="python")
    with pytest.raises(UsageError, match="name your class too"):
        imported(weights(), "")


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"\xff" * 32, b"PK\x03\x04" + bytes(30)])
def test_a_file_that_is_not_safetensors_is_refused_with_the_way_out(content: bytes) -> None:
    """If it fails, a pickle is unpacked, or the user does not learn how to save the weights."""
    Path("weights.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors.*save_file"):
        imported(Path("weights.pt"), "own_net:OwnNet")


@pytest.mark.parametrize("file", ["ours.py", "ours_helper.py"])
def test_changed_code_is_refused_and_has_another_key(file: str) -> None:
    """If it fails, edited code is scored as the model that was imported, or gets its cached logits."""
    folder, bars = imported(net_of("ours"), "ours:Net", context=1 + 1, name="ours").folder, served_bars()
    key = key_of(read_checkpoint(folder), bars, "cpu")
    del sys.modules["ours"], sys.modules["ours_helper"]
    text = Path(file).read_text()
    Path(file).write_text(text.replace("SCALE = 1.0", "SCALE = 1.5").replace("return SCALE", "return 1.5 * SCALE"))
    __import__("ours")
    with pytest.raises(CheckpointError, match="not the one that was imported") as refused:
        read_checkpoint(folder).model.logits(bars, device="cpu")
    assert ("The file of the class" in str(refused.value)) == (file == "ours.py")

    del sys.modules["ours"], sys.modules["ours_helper"]
    Path(file).write_text(text + "\n# a comment\n")
    __import__("ours")
    read_checkpoint(folder).model.logits(bars, device="cpu")
    assert (key_of(read_checkpoint(folder), bars, "cpu") != key) == (file == "ours.py")


def test_nothing_that_a_file_names_is_run(tmp_path: Path) -> None:
    """If it fails, a checkpoint from elsewhere runs code that it chooses."""
    checkpoint, bars = imported(weights(), "own_net:OwnNet"), served_bars()
    Path("evil_net.py").write_text(f"open({str(tmp_path / 'CANARY')!r}, 'w').close()\nclass Net: ...\n")
    for number, code in enumerate(("evil_net:Net", "os:abort", "os:_exit", "sys:exit", "builtins:exit", "builtins:object")):
        folder = Path(shutil.copytree(checkpoint.folder, f"copy_{number}"))
        values = json.loads((folder / "checkpoint.json").read_text())
        values["architecture"]["code"] = code
        (folder / "checkpoint.json").write_text(json.dumps(values))
        with pytest.raises(StrategyError, match=r"add --model-code evil_net:Net|expected a (class|torch)"):
            read_checkpoint(folder).model.logits(bars)
    assert "evil_net" not in sys.modules
    assert not (tmp_path / "CANARY").exists()


def test_no_file_is_taken_for_this_kind() -> None:
    """If it fails, any file of weights needs code."""
    assert not PythonModel.recognises(weights())


def test_the_commands_run_it_only_where_the_user_names_it(command: Command) -> None:
    """If it fails, the code runs without permission, or a run or a sweep cannot be repeated by the command on its page."""
    path, bars = net_of("mine"), served_bars()
    write_bars_csv(bars, Path("bars.csv"))
    stated_ = ("--features", "default", "--scaler", "none", "--labels", "horizon:6,0.01", "--trained-on", "none")
    given = ("ckpt", "import", path, "--name", "mine", "--model", "python:mine:Net", "--outputs", "logits", *stated_)
    code, _, err = command(*given, "--data", "bars.csv", "--context", 1)  # its forward takes windows, and these are rows
    assert code == 1
    assert "forward failed at" in err
    assert "mine.py, line 12" in err
    code, out, err = command(*given, "--data", "bars.csv", "--context", 4)
    assert code == 0, err
    assert "flagbt run --ckpt mine --model-code mine:Net --data FILE" in out

    for name in ("mine", "mine_helper"):
        del sys.modules[name]
    later = ("--ckpt", "mine", "--data", "bars.csv", "--timerange", "20230720-", "--device", "cpu")
    code, _, err = command("run", *later)
    assert code == 1
    assert "add --model-code mine:Net" in err
    assert "mine" not in sys.modules
    code, out, err = command("run", *later, "--model-code", "mine:Net", "--json")
    assert code == 0, err
    page = Path(json.loads(out)["tearsheet"]).read_text()
    assert "--ckpt mine --model-code mine:Net --data bars.csv" in page
    words = ("--offsets", "-1,-0.5,0,0.5,1", "--model-code", "mine:Net", "--workers", "2", "--json")
    code, out, err = command("sweep", *later, *words)
    assert code == 0, err
    assert "--model-code mine:Net" in json.loads(out)["winner"]["run"]
    code, _, err = command("run", *later, "--model-code", "mine:Nett")
    assert code == 1
    assert "Did you mean 'Net'?" in err
