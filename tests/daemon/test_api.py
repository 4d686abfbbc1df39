"""The routes, on a service in memory."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from autoopt.daemon.jobs import State
from autoopt.errors import DiskFull, RunError, UsageError, WorkloadError
from tests.daemon.test_security import BEARER, Door


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "home")


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return out.getvalue()


def upload(door: Door, submission: dict[str, Any], content: bytes) -> Any:
    return door.tcp.post(
        "/v1/jobs",
        headers=BEARER,
        data={"submission": json.dumps(submission)},
        files={"bundle": ("p.zip", content)},
    )


def submit(door: Door, **more: Any) -> dict[str, Any]:
    answer = door.unix.post("/v1/jobs", json={"target": "model.py", "cwd": "/", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_from_submit_to_retry(door: Door) -> None:
    job = submit(door, name="mine", priority=3)
    path = f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    answer = door.unix.get(path)
    assert answer.json() == job
    assert answer.headers["etag"] == f'"{job["version"]}"'
    assert door.unix.get("/v1/jobs").json() == {"jobs": [job]}
    assert door.unix.get(f"{path}/live").json()["progress"] == {"share": 0.5}
    assert door.unix.post(f"{path}/retry").status_code == 409
    assert door.unix.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert door.unix.post(f"{path}/cancel").status_code == 200
    assert door.unix.post(f"{path}/retry").json()["state"] == "queued"


def test_jobs_in_pages_and_by_state(door: Door) -> None:
    ids = [submit(door)["id"] for _ in range(5)]
    door.service.move(ids[1], State.CANCELLED)
    listed = door.unix.get("/v1/jobs", params={"limit": 2}).json()["jobs"]
    assert [job["id"] for job in listed] == [ids[4], ids[3]]
    rest = door.unix.get("/v1/jobs", params={"limit": 9, "before": ids[3]}).json()["jobs"]
    assert [job["id"] for job in rest] == [ids[2], ids[1], ids[0]]
    found = door.unix.get("/v1/jobs", params={"state": ["cancelled", "done"]}).json()["jobs"]
    assert [job["id"] for job in found] == [ids[1]]
    assert door.unix.get("/v1/jobs", params={"limit": 0}).status_code == 422


def test_result_log_and_files(door: Door) -> None:
    id_ = submit(door)["id"]
    answer = door.unix.get(f"/v1/jobs/{id_}/result")
    assert answer.status_code == 409
    assert answer.json()["hint"] == "Wait for it."
    assert answer.json()["kind"] == "NotPossible"
    log = door.unix.get(f"/v1/jobs/{id_}/log")
    assert log.headers["content-type"].startswith("text/plain")
    assert "<script>" in log.text
    assert door.unix.get(f"/v1/jobs/{id_}/files/report.html").status_code == 404
    out = door.home.job(id_) / "out"
    out.mkdir(parents=True)
    (out / "report.html").write_text("<script>1</script>")
    report = door.unix.get(f"/v1/jobs/{id_}/files/report.html")
    assert report.text == "<script>1</script>"
    assert report.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in report.headers["content-security-policy"]
    assert report.headers["content-type"] == "application/octet-stream"
    (out / "events.jsonl").write_text("")
    assert door.unix.get(f"/v1/jobs/{id_}/files/events.jsonl").status_code == 404
    door.service.move(id_, State.RUNNING, State.DONE)
    assert door.unix.get(f"/v1/jobs/{id_}/result").json()["recommendation"]["optimizer"] == "adamw"


def test_the_same_key_is_the_same_job(door: Door) -> None:
    first = submit(door, key="k")
    assert submit(door, key="k")["id"] == first["id"]
    headers = {"idempotency-key": "k"}
    again = door.unix.post("/v1/jobs", json={"target": "model.py"}, headers=headers).json()
    assert again["id"] == first["id"]
    headers = {"idempotency-key": "other"}
    answer = door.unix.post("/v1/jobs", json={"target": "model.py", "key": "k"}, headers=headers)
    assert answer.status_code == 422
    answer = door.unix.post("/v1/jobs", json={"target": "m.py"}, headers={"idempotency-key": "k" * 300})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("no such optimizer", "there is adamw"), 422),
        (WorkloadError("no file", "check"), 422),
        (RunError("in use", "wait"), 409),
        (OSError("private"), 500),
    ],
)
def test_errors_of_the_service_are_problems(door: Door, error: Exception, status: int) -> None:
    door.service.raises = error
    answer = door.unix.post("/v1/jobs", json={"target": "model.py"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    if status == 500:
        assert "private" not in answer.text
    else:
        assert (body["detail"], body["hint"]) == (error.message, error.hint)  # type: ignore[attr-defined]


def test_a_full_disk_is_507(door: Door) -> None:
    door.service.raises = DiskFull("The disk is full.", "Free some.")
    assert door.unix.post("/v1/jobs", json={"target": "model.py"}).status_code == 507


def test_what_is_not_there_is_a_problem(door: Door) -> None:
    for method, path, status in (
        ("GET", "/v1/nowhere", 404),
        ("GET", "/v1/jobs/abcdefghijkl", 404),
        ("GET", "/v1/jobs/short", 404),
        ("DELETE", "/v1/jobs", 405),
        ("GET", "/v1/jobs/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
    ):
        answer = door.unix.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    answer = door.unix.post("/v1/jobs", content="target=x", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_an_upload_becomes_a_job(door: Door) -> None:
    answer = upload(
        door, {"target": "a/model.py", "options": {"steps": 5}}, archive(**{"a/model.py": "x = 1"})
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert door.service.bundles[answer.json()["id"]] == {"a/model.py": b"x = 1"}
    assert list((door.home.path / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "submission",
    [
        {"target": "/etc/model.py"},
        {"target": "../model.py"},
        {"target": "~/model.py"},
        {"target": "model.py", "cwd": "/"},
        {"target": "model.py", "interpreter": "/bin/sh"},
        {"target": "model.py", "environment": {"LD_PRELOAD": "x"}},
        {"target": "model.py", "options": {"policy": "/etc/passwd"}},
        {"target": "model.py", "options": {"prior": ["a", "../../other"]}},
    ],
    ids=str,
)
def test_over_tcp_no_path_of_the_server_is_taken(door: Door, submission: dict[str, Any]) -> None:
    answer = upload(door, submission, archive(**{"model.py": "x"}))
    assert answer.status_code == 422
    assert not door.service.found
    direct = door.tcp.post("/v1/jobs", headers=BEARER, json=submission)
    assert direct.status_code == 422


def test_a_bad_archive_leaves_nothing(door: Door) -> None:
    for content in (b"no zip", archive(**{"../x": "1"}), archive()):
        answer = upload(door, {"target": "model.py"}, content)
        assert answer.status_code == 422
        assert answer.json()["kind"] == "BadBundle"
    assert not door.service.found
    assert list((door.home.path / "uploads").iterdir()) == []
    door.service.raises = RunError("in use")
    assert upload(door, {"target": "model.py"}, archive(**{"model.py": "x"})).status_code == 409
    assert list((door.home.path / "uploads").iterdir()) == []


def test_forms_that_are_no_submission(door: Door) -> None:
    for data, files in (
        ({}, {"bundle": ("p.zip", b"x")}),
        ({"submission": "{}"}, {"other": ("p.zip", b"x")}),
        ({"submission": "{}", "more": "1"}, {"bundle": ("p.zip", b"x")}),
        ({"submission": "{}"}, [("bundle", ("a", b"x")), ("bundle", ("b", b"x"))]),
    ):
        answer = door.tcp.post("/v1/jobs", headers=BEARER, data=data, files=files)
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"
    headers = {**BEARER, "content-type": "multipart/form-data"}
    assert door.tcp.post("/v1/jobs", headers=headers, content=b"x").status_code == 400


def test_openapi_describes_what_there_is(door: Door) -> None:
    schema = door.unix.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/live",
        "/v1/jobs/{id}/forget",
        "/v1/prune",
        "/v1/disk",
        "/v1/jobs/{id}/log",
        "/v1/jobs/{id}/result",
        "/v1/jobs/{id}/files/{name}",
        "/v1/jobs/{id}/cancel",
        "/v1/jobs/{id}/retry",
        "/v1/events",
        "/v1/health",
        "/v1/devices",
        "/v1/session",
        "/v1/login",
        "/healthz",
        "/metrics",
        "/login/{once}",
    }
    body = schema["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    target = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "priority" in schema["components"]["schemas"][target]["properties"]


def test_metrics_for_prometheus(door: Door) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    submit(door)
    door.unix.get("/v1/jobs/abcdefghijkl")
    door.unix.get("/v1/nowhere/with/a/long/path")
    text = door.unix.get("/metrics").text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples[("autoopt_jobs", (("state", "queued"),))] == 1
    assert samples[("autoopt_starts_total", ())] == 3
    assert samples[("autoopt_disk_free_bytes", ())] == 7
    assert samples[("autoopt_places", (("kind", "H 100"),))] == 2
    assert samples[("autoopt_http_requests_total", (("route", "/v1/jobs/{id}"), ("status", "404")))] == 1
    assert samples[("autoopt_http_requests_total", (("route", "none"), ("status", "404")))] == 1
    assert "long/path" not in text


def test_sessions_say_what_can_be_done(door: Door) -> None:
    assert door.unix.get("/v1/session").json() == {
        "listener": "unix",
        "uploads_only": False,
        "max_upload_bytes": 100_000,
    }
    assert door.tcp.get("/v1/session", headers=BEARER).json()["uploads_only"] is True
    assert door.tcp.get("/v1/devices", headers=BEARER).json()["devices"][0]["uuid"] == "cpu"
    assert door.tcp.get("/v1/health", headers=BEARER).json()["status"] == "ok"


def test_the_pages_files_have_their_types(door: Door) -> None:
    index = door.tcp.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    script = door.tcp.get("/static/main.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "no-cache"
    assert door.tcp.get("/static/nowhere.js").status_code == 404


def test_a_bad_id_of_an_event_is_refused_before_the_stream_begins(door: Door) -> None:
    for given in ("x", "-1", "1.5", "9" * 30, "²"):
        assert door.unix.get("/v1/events", params={"after": given}).status_code == 422
        assert door.unix.get("/v1/events", headers=[(b"last-event-id", given.encode())]).status_code == 422
