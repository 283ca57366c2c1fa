#!/bin/bash
# Makes these fixtures again, with flagbt 0.1.0 and no other version:
#   make_fixtures.sh PYTHON_WITH_FLAGBT_0_1_0
# Pages (1.5 MB each) and the picture of a training are taken away afterwards: no reader needs them, and `flagbt report`
# writes a run's page again. expected.json keeps the numbers, arrays and short words that 0.1.0 prints, and no sentences.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work/user" FLAGBT_HOME="$work/home" OMP_NUM_THREADS=1
mkdir -p "$HOME"
flagbt() { "$python" "$here/flagbt_nano.py" "$@" 2>>"$work/stderr.txt" || { tail -5 "$work/stderr.txt" >&2; return 1; }; }
mkdir "$work/here"
cd "$work/here"
flagbt --version | grep -q 'version 0\.1\.0$'
cp "$here"/*.yaml .

flagbt data sample -o sample.csv
flagbt pretrain --config pretrain.yaml --json >pretrain.json
flagbt train --config train.yaml --json >train.json
flagbt calibrate --ckpt nano --timerange 20240401-20240516 --method vector --store --force --json >calibrate.json
flagbt calibrate --ckpt nano --timerange 20240401-20240516 --method temperature --decision argmax --output warm.json --force
flagbt run --config run.yaml --json >run_nano.json
flagbt run --strategy sma-cross --timerange 20240601-20240703 --name baseline --json >run_sma.json
flagbt sweep --config sweep.yaml --json >sweep_nano.json

# What 0.1.0 reads from it. The names of run folders hold the time; they are read from the folders.
nano=$(basename runs/*-flagtrader-nano-*)
sma=$(basename runs/*-sma-cross-*)
mkdir read
flagbt runs list --json >read/runs_list.json
flagbt runs show "$nano" --json >read/runs_show_nano.json
flagbt runs show "$sma" --json >read/runs_show_sma.json
flagbt compare "$nano" --fail-if 'max_drawdown < -0.9' --json >read/compare_nano.json
flagbt ckpt show nano --json >read/ckpt_show.json
flagbt show-config --config run.yaml --json >read/show_config.json
mkdir again
flagbt run --config run.yaml --out again --json >read/run_config_again.json
flagbt run --ckpt nano --timerange 20240601-20240608 --calibration warm.json --out again --json >read/run_warm.json

rm runs/index.html runs/*/tearsheet.html sweeps/*/sweep.html checkpoints/nano/curves.png
rm -rf "$here"/{runs,sweeps,checkpoints,bases,warm.json,expected.json}
cp -r runs sweeps checkpoints bases warm.json "$here/"
"$python" - read run_nano.json sweep_nano.json train.json pretrain.json calibrate.json "$here/expected.json" <<'P'
import json, sys
from pathlib import Path

where, *made, target = map(Path, sys.argv[1:])
found = {path.stem: json.loads(path.read_text()) for path in [*made, *sorted(where.iterdir())]}


def pruned(value):
    if isinstance(value, dict):
        kept = {key: pruned(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if not (isinstance(each, str) and " " in each)}
    return [pruned(each) for each in value] if isinstance(value, list) else value


for name in ("run_config_again", "run_warm", "run_nano"):
    found[name].pop("run", None)
    found[name].pop("page", None)
for name in ("run_nano", "sweep_nano"):
    found.pop(name)  # they are in the folders
for name in ("before", "after", "held_out"):
    found["calibrate"].pop(name)  # long, and about the fit, not what was stored
target.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(pruned(v), sort_keys=True)}" for k, v in found.items()) + "\n}\n")
P
du -sb "$here"
