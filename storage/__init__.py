"""Storage: writes that are whole or not at all, and reads of files that somebody else wrote, within limits."""
