"""The form: what it sends, what it refuses to send, and what it says when the daemon refuses."""

from __future__ import annotations

import email
import email.policy
import io
import json
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake, Json

pytestmark = pytest.mark.long

ID = "c9x1abcdefgh"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, content in {
        "model.py": "import layers\n",
        "layers.py": "# layers\n",
        "data/points.csv": "1,2\n",
        ".git/config": "secret\n",
        ".env": "TOKEN=secret\n",
        "__pycache__/model.pyc": "old\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def sent(fake: Fake) -> list[tuple[Json, str, bytes, str]]:
    """Of each submit: the submission, the name and content of the bundle, the key."""
    found = []
    for method, path, headers, body in fake.asked:
        if (method, path) != ("POST", "/v1/jobs"):
            continue
        whole = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body
        parts = {}
        for part in email.message_from_bytes(whole, policy=email.policy.HTTP).iter_parts():  # type: ignore[attr-defined]
            parts[part.get_param("name", header="content-disposition")] = part
        content = parts["bundle"].get_payload(decode=True)
        submission = json.loads(parts["submission"].get_payload(decode=True))
        found.append((submission, parts["bundle"].get_filename(), content, headers["Idempotency-Key"]))
    return found


def accept(fake: Fake) -> None:
    job = made.job(ID)

    def answer(path: str, body: bytes) -> Json:
        fake.jobs[ID] = job
        return job

    fake.on_post = answer


def send(page: Page) -> None:
    page.get_by_role("button", name="Submit").click()


def test_python_files_go_as_a_zip_and_the_job_is_shown(visit: Open, fake: Fake, project: Path) -> None:
    accept(fake)
    page = visit("#/submit")
    page.get_by_label("Files").set_input_files([project / "layers.py", project / "model.py"])
    expect(page.get_by_label("Model", exact=True)).to_have_value("model.py")
    page.get_by_label("Budget").fill("90s")
    send(page)
    expect(page).to_have_url(f"{fake.address}/#/jobs/{ID}")
    ((submission, name, content, key),) = sent(fake)
    assert submission == {"target": "model.py", "options": {"budget": "90s"}}
    assert name == "project.zip"
    assert len(key) == 32
    with zipfile.ZipFile(io.BytesIO(content)) as found:
        assert sorted(found.namelist()) == ["layers.py", "model.py"]


def test_a_folder_goes_without_what_is_hidden(visit: Open, fake: Fake, project: Path) -> None:
    accept(fake)
    page = visit("#/submit")
    page.get_by_label("or a folder").set_input_files(project)
    expect(page.get_by_label("Model", exact=True)).to_have_value("model.py")
    send(page)
    expect(page).to_have_url(f"{fake.address}/#/jobs/{ID}")
    with zipfile.ZipFile(io.BytesIO(sent(fake)[0][2])) as found:
        assert sorted(found.namelist()) == ["data/points.csv", "layers.py", "model.py"]
        assert found.read("data/points.csv") == b"1,2\n"


def test_an_archive_goes_as_it_is(visit: Open, fake: Fake, tmp_path: Path) -> None:
    accept(fake)
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made_here:
        made_here.writestr("package/model.py", "x = 1\n" * 100)
    page = visit("#/submit")
    page.get_by_label("Files").set_input_files(archive)
    page.get_by_label("Model", exact=True).fill("package/model.py")
    send(page)
    expect(page).to_have_url(f"{fake.address}/#/jobs/{ID}")
    assert sent(fake)[0][1:3] == ("mine.zip", archive.read_bytes())


def test_every_option_is_sent_as_what_it_is(visit: Open, fake: Fake, project: Path) -> None:
    accept(fake)
    page = visit("#/submit")
    page.get_by_label("Files").set_input_files(project / "model.py")
    page.get_by_text("More options").click()
    for label, text in {
        "Steps": "400", "Name": "mine", "Priority": "-5", "Optimizers": "adamw, sgd", "Policy": "careful",
        "Limit": "memory=2GB", "Device": "cpu", "CPU cores": "2", "Workers": "1", "Warm-up": "0.1",
        "Accumulate": "2", "Clip": "1.5", "Seed": "7", "Arguments": "--size\n8 wide\n",
    }.items():  # fmt: skip
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("Precision").select_option("bf16")
    page.get_by_label("Schedule").select_option("linear")
    send(page)
    expect(page).to_have_url(f"{fake.address}/#/jobs/{ID}")
    assert sent(fake)[0][0] == {
        "target": "model.py",
        "arguments": ["--size", "8 wide"],
        "name": "mine",
        "priority": -5,
        "cores": 2,
        "options": {
            "steps": 400, "optimizers": ["adamw", "sgd"], "policy": "careful", "limit": "memory=2GB",
            "device": "cpu", "workers": 1, "warmup": 0.1, "accumulate": 2, "clip": 1.5, "seed": 7,
            "precision": "bf16", "schedule": "linear",
        },
    }  # fmt: skip


def test_what_cannot_be_meant_is_not_sent_and_says_why(visit: Open, fake: Fake, project: Path) -> None:
    page = visit("#/submit")
    send(page)
    expect(page.get_by_text("Choose a file or a folder.")).to_be_visible()
    expect(page.get_by_text("Name the file of the model.")).to_be_visible()
    expect(page.get_by_label("Files")).to_be_focused()
    page.get_by_label("Files").set_input_files(project / "model.py")
    page.get_by_text("More options").click()
    for label, text, wrong in (
        ("Budget", "soon", "A duration such as 90s"),
        ("Steps", "0", "A whole number, 1 or more."),
        ("Priority", "101", "A whole number from -100 to 100."),
        ("Epochs", "-1", "A number above 0."),
        ("Seed", "x", "A whole number, 0 or more."),
    ):
        field = page.get_by_label(label, exact=True)
        field.fill(text)
        send(page)
        expect(page.get_by_text(wrong)).to_be_visible()
        assert field.get_attribute("aria-invalid") == "true"
        field.fill("")
    page.get_by_label("Accumulate").fill("2")
    page.get_by_label("Global batch").fill("64")
    send(page)
    expect(page.get_by_text("Accumulate and global batch say the same thing twice")).to_be_visible()
    page.get_by_label("Steps").fill("10")
    page.get_by_label("Epochs").fill("2")
    page.get_by_text("More options").click()
    send(page)
    # What is wrong is shown, also where it was folded away.
    expect(page.get_by_text("Steps and epochs say the same thing twice")).to_be_visible()
    assert sent(fake) == []


def test_a_refusal_is_told_and_sending_again_makes_no_second_job(
    visit: Open, fake: Fake, project: Path, complaints: list[str]
) -> None:
    accept(fake)
    fake.fails["/v1/jobs"] = (507, {"title": "x", "detail": "The disk is full.", "hint": "Free some space."})
    page = visit("#/submit")
    page.get_by_label("Files").set_input_files(project / "model.py")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("The disk is full.")
    send(page)
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    page.get_by_label("Name").fill("another")
    fake.fails.clear()
    send(page)
    expect(page).to_have_url(f"{fake.address}/#/jobs/{ID}")
    first, second, third = (key for _, _, _, key in sent(fake))
    assert first == second != third
    complaints.clear()


def test_a_folder_of_hidden_files_only_is_told(visit: Open, fake: Fake, project: Path) -> None:
    page = visit("#/submit")
    page.get_by_label("or a folder").set_input_files(project / ".git")
    page.get_by_label("Model", exact=True).fill("model.py")
    page.get_by_label("Files").set_input_files(project / ".env")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("Nothing is left to send")


def test_what_is_too_large_is_not_sent(visit: Open, fake: Fake, project: Path) -> None:
    fake.max_upload = 100
    page = visit("#/submit")
    page.get_by_label("Files").set_input_files(project / "model.py")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("and the daemon takes 100 B.")
    assert sent(fake) == []
