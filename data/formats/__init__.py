"""What a file of bars may look like: each format turns a file into a `Table`, not yet checked."""
