"""What Ray says, in the user's words. The texts are Ray 2.60's own."""

from __future__ import annotations

import pytest

from autoopt.trials.cluster.refusals import refusal

VERSIONS = """Version mismatch: The cluster was started with:
    Ray: 2.52.0
    Python: 3.12.3
This process on 10.0.0.2 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""
LARGE = """Failed to set up runtime environment.
Failed to upload working_dir /home/me/big to the Ray cluster: Package size (524.52MiB) exceeds the maximum size of 512.00MiB.
To exclude large files, add them to '.gitignore' or '.rayignore' files."""


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (VERSIONS, "has Ray 2.52.0 on Python 3.12.3; here it is Ray 2.60.0 on Python 3.11.7", "ray==2.52.0"),
        (
            LARGE,
            "/home/me/big is too large to be shipped: 524.52MiB packed, and Ray takes 512.00MiB",
            "--ship",
        ),
        (
            "Could not find any running Ray instance. Please",
            "no Ray cluster on this machine",
            "ray start --head",
        ),
        ("ray client connection timeout", "does not serve this client", "RAY_AUTH_TOKEN"),
        ("Starting Ray client server failed. See x.err", "does not serve this client", "CHECK_CHANNEL"),
        ("UNAUTHENTICATED: InvalidAuthToken", "refused this token", "RAY_AUTH_MODE=token"),
        (
            "Failed to set up runtime environment.\nFailed to upload x: [Errno 28] No space left on device",
            "no space for /home/me/big where Ray puts it: Failed to upload x: [Errno 28]",
            "/tmp/ray",
        ),
        ("something\nelse", "cannot be used: something", "HOST:PORT"),
        ("", "it gave no reason", "HOST:PORT"),
    ],
)
def test_a_refusal(said: str, message: str, hint: str) -> None:
    told = refusal(said, "10.0.0.1:6379", "/home/me/big")
    assert message in told.message
    assert hint in told.hint
    assert "\n" not in told.message
