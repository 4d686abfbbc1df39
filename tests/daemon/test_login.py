"""Token, login link and cookie."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from autoopt.daemon.login import COOKIE_SECONDS, LINK_SECONDS, Keys, read_or_make
from autoopt.errors import RunError
from tests.daemon.test_security import BASE, Door

TOKEN = "t" * 43


def test_a_token_has_256_bits_and_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = read_or_make(path)
    assert len(token) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make(path) == token
    assert read_or_make(tmp_path / "other") != token
    assert {found.name for found in tmp_path.iterdir()} == {"token", "other"}


def test_many_at_once_agree_on_one_token(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(read_or_make(tmp_path / "token"))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1


def test_a_token_that_others_may_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    read_or_make(path)
    for mode in (0o644, 0o640, 0o602):
        path.chmod(mode)
        with pytest.raises(RunError, match="read by others"):
            read_or_make(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(RunError, match="no token"):
        read_or_make(path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(RunError, match="cannot be read"):
        read_or_make(path)


def test_a_link_works_once_and_not_for_long() -> None:
    now = [1000.0]
    keys = Keys(TOKEN, lambda: now[0])
    link = keys.new_link()
    assert keys.use_link(link)
    assert not keys.use_link(link)
    late = keys.new_link()
    now[0] += LINK_SECONDS + 1
    assert not keys.use_link(late)
    assert not keys.use_link("")


def test_two_at_once_cannot_use_one_link() -> None:
    keys = Keys(TOKEN)
    for _ in range(50):
        link, barrier, used = keys.new_link(), threading.Barrier(4), []

        def use(link: str = link, barrier: threading.Barrier = barrier, used: list[bool] = used) -> None:
            barrier.wait()
            used.append(keys.use_link(link))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(used) == 1


def test_only_so_many_links_are_open() -> None:
    keys = Keys(TOKEN)
    links = [keys.new_link() for _ in range(100)]
    assert sum(keys.use_link(link) for link in links) == 16


def test_a_cookie_outlives_a_restart_and_not_its_day_nor_its_token() -> None:
    now = [1000.0]
    cookie = Keys(TOKEN, lambda: now[0]).new_cookie()
    again = Keys(TOKEN, lambda: now[0])
    assert again.knows_cookie(cookie)
    assert not Keys("u" * 43, lambda: now[0]).knows_cookie(cookie)
    end, rest = cookie.split(".", 1)
    assert not again.knows_cookie(f"{int(end) + 1}.{rest}")
    assert TOKEN not in cookie
    now[0] += COOKIE_SECONDS + 1
    assert not again.knows_cookie(cookie)


def test_a_login_leaves_a_cookie_that_scripts_and_other_sites_cannot_use(tmp_path: Path) -> None:
    door = Door(tmp_path)
    url = door.unix.post("/v1/login").json()["url"]
    assert url.startswith(f"{BASE}/login/")
    path = url.removeprefix(BASE)
    # A preview of the link does not spend it.
    assert door.tcp.head(path).status_code == 405
    answer = door.tcp.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("autoopt_8470=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={COOKIE_SECONDS}"):
        assert part in cookie
    assert "Domain" not in cookie
    assert door.tcp.get("/v1/jobs").status_code == 200
    door.tcp.cookies.clear()
    used = door.tcp.get(path)
    assert used.status_code == 403
    assert "set-cookie" not in used.headers
    assert "autoopt serve --link" in used.text


def test_links_are_given_out_at_the_unix_socket_only(tmp_path: Path) -> None:
    door = Door(tmp_path)
    answer = door.tcp.post("/v1/login", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 403
