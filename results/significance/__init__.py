"""Certainty: how much of a run's Sharpe ratio could be luck, each answer a number and one plain sentence."""
