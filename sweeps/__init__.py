"""Sweeps: many settings replayed over the same bars, the winner judged by Backtrader, and by bars it never saw."""
