"""The colours of every page and chart, for light and dark backgrounds."""

from __future__ import annotations

# Okabe and Ito's palette, which colour-blind readers can distinguish; the second of each pair is for a dark background.
COLOURS = {
    "strategy": ("#0072b2", "#56b4e9"),
    "benchmark": ("#b87a00", "#e69f00"),
    "sell": ("#d55e00", "#e8743b"),
    "hold": ("#b5b9be", "#6f767d"),
    "buy": ("#0072b2", "#3f9fdb"),
    "run0": ("#0072b2", "#56b4e9"),
    "run1": ("#d55e00", "#ee7733"),
    "run2": ("#009e73", "#33bf94"),
    "run3": ("#cc79a7", "#e49bc3"),
    "run4": ("#6a51a3", "#a993e0"),
    "run5": ("#8c6d00", "#d6b42c"),
    "text": ("#1c1f23", "#e4e6e8"),
    "muted": ("#5b636b", "#9aa2aa"),
    "rule": ("#dfe2e5", "#343a40"),
    "page": ("#ffffff", "#16181b"),
    "card": ("#f6f7f8", "#1f2226"),
    "warn": ("#fff1d6", "#40300a"),
    "warn-rule": ("#d08700", "#e69f00"),
}
