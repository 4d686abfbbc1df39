"""The page's files: those that lie in `page/`, by name, and nothing else."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from autoopt.daemon.problems import Problem

FOLDER = Path(__file__).parent / "page"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


class Assets:
    """The files of a folder; a name that is not listed when this is made is not served, whatever it spells."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            path.name: path for path in sorted(folder.glob("*")) if path.is_file() and path.suffix in _TYPES
        }

    @property
    def names(self) -> list[str]:
        """What can be asked for."""
        return list(self._files)

    def respond(self, name: str) -> Response:
        """The file called `name`.

        Raises:
            Problem: 404.
        """
        path = self._files.get(name)
        if path is None:
            raise Problem(404, "The page has no such file.")
        # Looked at again at each load, so that an upgrade is seen at once.
        headers = {"cache-control": "no-cache"}
        return Response(path.read_bytes(), headers=headers, media_type=_TYPES[path.suffix])
