"""Entry of a worker process: `python -m autoopt.trials.worker COMMANDS REPLIES` (file descriptors).

Its own imports are small: loader processes started by spawn import it again as their main module.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

from autoopt.trials.keeper import fork_under_keeper


def main(arguments: list[str]) -> NoReturn:
    """Becomes keeper and worker, loads, runs trials until told to stop, and ends the process."""
    commands, replies = (int(value) for value in arguments)
    for fd in (commands, replies):
        os.set_inheritable(fd, False)  # a program that the user's code starts must not hold the pipes open
    fork_under_keeper(commands, replies)

    from autoopt.trials.serve import serve

    code = serve(commands, replies)
    # The user's exit handlers run; to take torch's modules apart as well would cost a second for nothing.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
