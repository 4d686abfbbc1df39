"""Entry of a worker process: `python -m autoopt.trials.worker COMMANDS REPLIES` (file descriptors).

Its own imports are small: loader processes started by spawn import it again as their main module.
"""

from __future__ import annotations

import os
import sys

from autoopt.trials.keeper import fork_under_keeper


def main(arguments: list[str]) -> int:
    """Becomes keeper and worker, loads, and runs trials until told to stop."""
    commands, replies = (int(value) for value in arguments)
    for fd in (commands, replies):
        os.set_inheritable(fd, False)  # a program that the user's code starts must not hold the pipes open
    fork_under_keeper(commands, replies)

    from autoopt.trials.serve import serve

    return serve(commands, replies)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
