"""Entry of a process that predicts memory: `python -m autoopt.trials.predictor REPLIES`, the request on stdin.

It loads the user's file and traces it; a trace that hangs or crashes takes only this process with it.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from autoopt.errors import AutooptError, WorkloadError
from autoopt.memory.answer import MemoryRequest
from autoopt.trials.protocol import Failed, encode


def main(arguments: list[str]) -> NoReturn:
    """Answers one request and ends the process."""
    replies = int(arguments[0])
    os.set_inheritable(replies, False)  # loader processes must not hold it open
    request = MemoryRequest.model_validate_json(sys.stdin.read())
    try:
        from autoopt.memory.predict import predict

        def progress(text: str) -> None:
            _say(replies, f"+{text}\n".encode())

        reply = predict(request, progress)
        if request.measure_on is not None:
            from autoopt.trials.measuring import measured

            reply = measured(request, reply, progress)
        _say(replies, encode(reply))
    except AutooptError as error:
        _say(replies, encode(Failed.of(error)))
    except Exception as error:
        text = f"The prediction failed: {type(error).__name__}: {error}"
        _say(replies, encode(Failed.of(WorkloadError(text, "Please report it, with the model if you can."))))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _say(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main(sys.argv[1:])
