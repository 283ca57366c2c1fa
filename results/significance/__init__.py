"""Statistical significance: how much of a run's Sharpe ratio could be luck, as numbers with one plain sentence each."""
