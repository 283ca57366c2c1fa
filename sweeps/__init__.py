"""Sweeps: many settings replayed on the same bars; the winner is checked in Backtrader and tested on a hold-out."""
