"""How long a command takes to start, as ratios to `import click`: `python benchmarks/start_up.py`.

Each is a separate process; the least of nine is kept, since a busy machine only adds to it.
"""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 9
CODE = {
    "python itself": "pass",
    "import click": "import click",
    "import flagbt": "import flagbt",
    "flagbt --help": "import sys; sys.argv = ['flagbt', '--help']; from flagbt.__main__ import main; main()",
    "flagbt run --help": "import sys; sys.argv = ['flagbt', 'run', '--help']; from flagbt.__main__ import main; main()",
}


def seconds(code: str) -> float:
    """Return how long a process with this code takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print a line for each."""
    least = {name: min(seconds(code) for _ in range(REPEATS)) for name, code in CODE.items()}
    for name, value in least.items():
        print(f"{name:18} {1000 * value:7.0f} ms  {value / least['import click']:6.2f} x import click")


if __name__ == "__main__":
    main()
