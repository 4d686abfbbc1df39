"""`python -m autoopt`: the same as the `autoopt` command."""

from __future__ import annotations

from autoopt.cli.main import main

if __name__ == "__main__":
    main()
