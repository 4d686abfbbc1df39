from __future__ import annotations

import logging

from autoopt.daemon.logged import Discreet


def test_secrets_are_left_out_of_messages_and_tracebacks() -> None:
    format_ = Discreet(["TOKEN123"])
    for text in (
        "GET /login/SECRET HTTP/1.1",
        "authorization: Bearer SECRET",
        "bearer   SECRET",
        "Cookie: autoopt=SECRET",
        "the token is TOKEN123",
    ):
        record = logging.LogRecord("x", logging.INFO, "", 1, "%s", (text,), None)
        shown = format_.format(record)
        assert "SECRET" not in shown
        assert "TOKEN123" not in shown
    try:
        raise ValueError("TOKEN123 and /login/SECRET")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 1, "failed", (), (ValueError, error, error.__traceback__)
        )
    shown = format_.format(record)
    assert "ValueError" in shown
    assert "TOKEN123" not in shown
    assert "SECRET" not in shown
