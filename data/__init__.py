"""Data: bars, time ranges, labels and features, and everything that reads, checks or fetches them."""
