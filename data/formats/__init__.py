"""File formats of bars: each turns a file into a `Table`, not yet checked."""
