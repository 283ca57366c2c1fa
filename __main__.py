"""`python -m flagbt`: the same as the `flagbt` command."""

from .cli import main

if __name__ == "__main__":
    main()
