"""Storage: atomic writes, locks, and bounded reads of files from other people."""
