"""The engine: Backtrader, bar by bar, and a compiled replay of the same trading rules."""
