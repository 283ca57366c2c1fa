"""Measure the coverage of the intervals of docs/significance.md on simulated series whose true Sharpe ratio is known.

    python benchmarks/intervals.py [--series 1000] [--days 1460 --days 365] [--method percentile --method bca]

Prints a table: a 90 % interval should contain the true value in 90 % of the series. The standard error of a share of 1,000
series is 0.9 points. A line takes two minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from arch.bootstrap import StationaryBootstrap
from scipy.signal import lfilter

from flagbt.results.significance.bootstrap import sharpe_interval

SHARPE = 1.0  # a year: the truth of every series; buy and hold has 0.5
BENCHMARK_SHARPE = 0.5
VOLATILITY = 0.03  # a day
Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(random: np.random.Generator, days: int) -> np.ndarray:
    """Draw independent standard normal numbers."""
    return random.standard_normal(days)


def fat(random: np.random.Generator, days: int) -> np.ndarray:
    """Draw independent numbers of Student's t with 5 degrees of freedom, at a standard deviation of 1."""
    return random.standard_t(5, days) / np.sqrt(5 / 3)


def autocorrelated(phi: float) -> Draw:
    """Return a function that draws an AR(1) with the coefficient ``phi`` and a standard deviation of 1."""

    def draw(random: np.random.Generator, days: int) -> np.ndarray:
        noise = random.standard_normal(days + 200) * np.sqrt(1 - phi**2)
        return lfilter([1.0], [1.0, -phi], noise)[200:]

    return draw


SERIES: dict[str, Draw] = {
    "iid normal": normal,
    "iid t(5)": fat,
    "AR(1) 0.2": autocorrelated(0.2),
    "AR(1) 0.4": autocorrelated(0.4),
    "AR(1) -0.2": autocorrelated(-0.2),
}


def returns_of(standard: np.ndarray, sharpe: float) -> np.ndarray:
    """Return daily returns with a true yearly Sharpe ratio of ``sharpe`` from numbers with mean 0 and deviation 1."""
    return VOLATILITY * (standard + sharpe / np.sqrt(365))


def arch_interval(returns: np.ndarray, method: str, seed: int) -> tuple[float, float]:
    """Return the interval of a Sharpe ratio by one of arch's own methods, with the same block length."""
    found = sharpe_interval(returns, seed=seed, resamples=1)
    block = 1.0 if found is None else found.block
    sampler = StationaryBootstrap(block, returns, seed=seed)
    low, high = sampler.conf_int(lambda drawn: drawn.mean() / drawn.std(ddof=1), 1_000, method=method, size=0.9).ravel()
    return float(low), float(high)


def covered(name: str, days: int, series: int, *, paired: bool, resamples: int = 1_000, method: str = "studentised") -> float:
    """Return the share of simulated series whose 90 % interval contains the true value."""
    draw, hits = SERIES[name], 0
    for seed in range(series):
        random = np.random.default_rng([seed, days])
        own = draw(random, days)
        other = 0.6 * own + 0.8 * draw(random, days)  # correlated, as a strategy is with its market
        benchmark = returns_of(other, BENCHMARK_SHARPE) if paired else None
        truth = (SHARPE - BENCHMARK_SHARPE * paired) / np.sqrt(365)
        if method != "studentised":
            low, high = arch_interval(returns_of(own, SHARPE), method, seed)
            hits += low <= truth <= high
            continue
        found = sharpe_interval(returns_of(own, SHARPE), benchmark, seed=seed, resamples=resamples)
        hits += found is not None and found.low <= truth <= found.high
    return hits / series


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--days", type=int, action="append")
    parser.add_argument("--kind", choices=list(SERIES), action="append")
    parser.add_argument("--method", choices=("percentile", "basic", "bca"), action="append", help="instead, of the ratio only")
    parser.add_argument("--only", choices=("ratio", "difference"))
    given = parser.parse_args()
    print("| series | days | interval of | contains the truth | seconds |\n| --- | --- | --- | --- | --- |")
    for days in given.days or [1_460, 365]:
        for name in given.kind or SERIES:
            for method in given.method or ():
                rate = covered(name, days, given.series, paired=False, method=method)
                print(f"| {name} | {days} | ratio, {method} | {100 * rate:.1f} % | |", flush=True)
            for paired in () if given.method else (False, True):
                what = "difference" if paired else "ratio"
                if given.only in (None, what):
                    started = time.perf_counter()
                    rate = covered(name, days, given.series, paired=paired)
                    print(
                        f"| {name} | {days} | {what} | {100 * rate:.1f} % | {time.perf_counter() - started:.0f} |", flush=True
                    )


if __name__ == "__main__":
    main()
