"""Why a cluster could not be used, in the user's words. Pure functions of what Ray says."""

from __future__ import annotations

import re

from autoopt.trials.cluster.messages import Refused

_WRONG_TOKEN = re.compile(r"InvalidAuthToken|Unauthenticated|UNAUTHENTICATED")
_TOO_LARGE = re.compile(r"size \(([\d.]+ ?\w+)\) exceeds the maximum size of ([\d.]+ ?\w+)")
_NO_REASON = "Failed to set up runtime environment."
_VERSIONS = re.compile(
    r"Version mismatch.*?Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+).*?Ray: (?P<own_ray>\S+)\s+Python: (?P<own_python>\S+)",
    re.DOTALL,
)


def refusal(error: str, address: str, folder: str) -> Refused:
    """What to tell for an exception of `ray.init`.

    Args:
        error: its text.
        address: where the cluster should have been.
        folder: what was to be shipped.

    >>> refusal("Could not find any running Ray instance.", "auto", ".").message
    'There is no Ray cluster on this machine.'
    """
    if wrong_token(error):
        return token_refused(address)
    if found := _TOO_LARGE.search(error):
        return Refused(
            message=f"{folder} is too large to be shipped: {found[1]} packed, and Ray takes {found[2]}.",
            hint="Put the data where every machine finds them (a shared disk, a path outside this folder), or name them in "
            ".gitignore; --ship names another folder.",
        )
    if found := _VERSIONS.search(error):
        return Refused(
            message=f"The cluster at {address} has Ray {found['ray']} on Python {found['python']}; here it is "
            f"Ray {found['own_ray']} on Python {found['own_python']}.",
            hint=f"Use the cluster's versions here: pip install 'ray=={found['ray']}', on its Python.",
        )
    if "No space left on device" in error:
        return Refused(
            message=f"There is no space for {folder} where Ray puts it: {first_line(error)}",
            hint="Make room in the head's temporary folder (/tmp/ray unless it was started with --temp-dir), or ship less.",
        )
    if "Could not find any running Ray instance" in error:
        return Refused(
            message="There is no Ray cluster on this machine.",
            hint="Start one with `ray start --head`, or give HOST:PORT of its head, or ray://HOST:10001.",
            gone=True,
        )
    if "Starting Ray client server failed" in error or "ray client connection timeout" in error:
        return Refused(
            message=f"The cluster at {address} is there, but does not serve this client: {first_line(error)}",
            hint="Where it has a token, this shell needs it too (RAY_AUTH_TOKEN). Or its head is busy: start that with "
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S=120. Or run this on one of its machines, with --cluster auto.",
            gone=True,
        )
    return Refused(
        message=f"The Ray cluster at {address} cannot be used: {first_line(error)}",
        hint="Start one with `ray start --head`, or give HOST:PORT of its head, or ray://HOST:10001.",
        gone=True,
    )


def wrong_token(text: str) -> bool:
    """Whether this, of Ray's log or an exception, tells of a token that is not the cluster's."""
    return _WRONG_TOKEN.search(text) is not None


def token_refused(address: str) -> Refused:
    """What to tell then."""
    return Refused(
        message=f"The cluster at {address} refused this token.",
        hint="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its head's token.",
    )


def first_line(error: str) -> str:
    """The line of an exception of Ray's that says what it was.

    >>> first_line("Failed to set up runtime environment.\\n[Errno 28] No space left on device")
    '[Errno 28] No space left on device'
    """
    lines = [line for line in error.strip().splitlines() if line.strip() and line != _NO_REASON]
    return lines[0].strip() if lines else "it gave no reason"
