"""Data: bars, time ranges, labels and features, and the code that reads, checks or fetches them."""
