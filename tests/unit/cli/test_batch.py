"""`diffedit batch` and `diffedit sweep`, over the memory doubles."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffedit.cli import batch_progress, main
from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.errors import StoreRefused, StoreUnavailable
from tests.support.cli import Cli, png

TARGET = ("--source", "a bowl of fruits", "--target", "a bowl of pears")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("more/a.png", "green")):
        (folder / name).write_bytes(png(colour=colour))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def worked(cli: Cli) -> Cli:
    cli.on_send = cli.succeed
    return cli


def test_a_folder_is_edited_and_the_same_command_again_submits_nothing(worked: Cli, pictures: Path) -> None:
    output = worked("batch", pictures, *TARGET).stdout
    assert "3 of 3 rows done" in output
    assert sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.png")) == [
        "a.png",
        "b.png",
        "more/a.png",
    ]
    assert {job.options.lane.value for job in worked.sent} == {"batch"}
    worked("batch", pictures, *TARGET)
    assert len(worked.sent) == 3


def test_rows_of_a_manifest_have_names_and_options_of_their_own(worked: Cli, pictures: Path) -> None:
    rows = [{"picture": "a.png", "seed": 1, "_sku": "X1"}, {"picture": "a.png", "seed": 2, "_sku": "X2"}]
    (pictures / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    answer = worked.json("batch", pictures / "rows.jsonl", *TARGET, "--name", "{sku}", "--param", "strength=0.5")
    assert (answer["total"], answer["done"], answer["files"]) == (2, 2, {"state": "out/batch.sqlite"})
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["X1.png", "X2.png"]
    assert sorted((job.request.params.seed, job.request.params.strength) for job in worked.sent) == [(1, 0.5), (2, 0.5)]


def test_failed_rows_are_a_manifest_and_are_tried_again_when_asked(cli: Cli, pictures: Path) -> None:
    def send(job: Job) -> None:
        fails = job.request.params.seed == 2
        error = ErrorInfo(stage=None, code="empty_mask", message="no difference")
        cli.job_store.end_job(job.id, State.FAILED, error) if fails else cli.succeed(job)

    cli.on_send = send
    rows = [{"picture": "a.png", "seed": 1}, {"picture": "b.png", "seed": 2, "_sku": "B"}, {"picture": "none.png"}]
    (pictures / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    output = cli("batch", pictures / "rows.jsonl", *TARGET, code=1).stdout
    assert "1 of 3 rows done, 2 failed" in output and "1 empty_mask" in output and "1 bad_picture" in output
    failed = [json.loads(line) for line in Path("out/failed.jsonl").read_text().splitlines()]
    assert [(row["_code"], row.get("_sku")) for row in failed] == [("empty_mask", "B"), ("bad_picture", None)]
    assert len(cli.sent) == 2
    cli("batch", pictures / "rows.jsonl", *TARGET, code=1)
    assert len(cli.sent) == 2  # not again by itself
    cli.on_send = cli.succeed
    cli("batch", pictures / "rows.jsonl", *TARGET, "--retry-failed", code=1)
    assert len(cli.sent) == 3
    (pictures / "none.png").write_bytes(png())
    cli("batch", "out/failed.jsonl", "--out", "again")
    cli("batch", pictures / "rows.jsonl", *TARGET, "--retry-failed")
    assert not Path("out/failed.jsonl").exists()


def test_a_limit_leaves_the_others_for_the_next_run(worked: Cli, pictures: Path) -> None:
    answer = worked.json("batch", pictures, *TARGET, "--limit", "2")
    assert (answer["done"], answer["pending"], len(worked.sent)) == (2, 1, 2)
    worked("batch", pictures, *TARGET)
    assert len(worked.sent) == 3


def test_a_job_that_has_not_ended_in_time_is_gone_on_with(cli: Cli, pictures: Path) -> None:
    answer = json.loads(cli("batch", pictures, *TARGET, "--timeout", "0.3", "--json", code=5).stdout)
    assert (answer["left"], answer["pending"], len(cli.sent)) == ({"job_timeout": 3}, 3, 3)
    for job in cli.sent:
        cli.succeed(job)
    assert cli.json("batch", pictures, *TARGET)["done"] == 3
    assert len(cli.sent) == 3


def test_a_dry_run_submits_nothing_and_says_what_rows_cost(worked: Cli, pictures: Path) -> None:
    rows = [{"picture": "a.png", "guidance_scale": scale} for scale in (1, 5)]
    rows += [{"picture": "a.png", "strength": 7}, {"picture": "none.png"}]
    (pictures / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ("batch", pictures / "rows.jsonl", *TARGET, "--dry-run", "--param", "num_inference_steps=10")
    cost = json.loads(worked(*command, "--json", code=1).stdout)
    assert worked.sent == [] and not Path("out").exists()
    assert (cost["rows"], cost["refused"], cost["seconds"]) == (2, 2, None)
    # One picture: its embeddings, its mask and its inversion are shared. 8 steps: 8 + 16 samples of two edits.
    assert cost["stages"] == {"embed": 1, "mask": 1, "invert": 1, "edit": 2}
    assert cost["samples"] == 2 * 10 + 8 + 8 + 16
    worked("batch", pictures / "rows.jsonl", *TARGET, code=1)  # half a second for each stage
    cost = json.loads(worked(*command, "--out", "other", "--json", code=1).stdout)
    assert cost["seconds"] == 5 * 0.5
    assert "about 2 s of one worker" in worked(*command, "--out", "other", code=1).stdout


def test_a_report_shows_rows_that_an_earlier_run_made(worked: Cli, pictures: Path) -> None:
    worked("batch", pictures, *TARGET)
    output = worked("batch", pictures, *TARGET, "--report").stdout
    assert "report: out/report.html" in output
    text = Path("out/report.html").read_text()
    assert text.count('"afterPicture"') == 3 and '"file": "more/a.png"' in text


@pytest.mark.parametrize("made_before", [True, False])
def test_each_page_of_a_report_has_its_pictures(
    worked: Cli, pictures: Path, monkeypatch: pytest.MonkeyPatch, made_before: bool
) -> None:
    monkeypatch.setattr("diffedit.batch.run.ROWS_PER_PAGE", 2)
    monkeypatch.setattr("diffedit.batch.report.ROWS_PER_PAGE", 2)
    if made_before:
        worked("batch", pictures, *TARGET)
    worked("batch", pictures, *TARGET, "--report")
    shown = [Path(f"out/{name}.html").read_text().count('"afterPicture"') for name in ("report", "report-2")]
    assert shown == [2, 1]


def test_pictures_that_come_into_the_folder_meanwhile_are_for_the_next_run(cli: Cli, pictures: Path) -> None:
    def send(job: Job) -> None:
        (pictures / "0.png").write_bytes(png(colour="white"))  # before all others
        cli.succeed(job)

    cli.on_send = send
    assert cli.json("batch", pictures, *TARGET, "--in-flight", "1")["done"] == 3
    assert len({job.request.image for job in cli.sent}) == 3
    assert cli.json("batch", pictures, *TARGET)["done"] == 4


def test_a_picture_that_was_changed_meanwhile_is_a_failed_row(cli: Cli, pictures: Path) -> None:
    cli("batch", pictures, *TARGET, "--timeout", "0.2", code=5)
    (pictures / "a.png").write_bytes(png(colour="white"))
    for job in cli.sent:
        cli.succeed(job)
    answer = json.loads(cli("batch", pictures, *TARGET, "--json", code=1).stdout)
    assert (answer["done"], answer["codes"]) == (2, {"idempotency_conflict": 1})
    cli.on_send = cli.succeed
    assert cli.json("batch", pictures, *TARGET, "--retry-failed")["done"] == 3


def test_a_folder_of_results_inside_of_the_pictures_is_no_input(worked: Cli, pictures: Path) -> None:
    for _ in range(2):
        worked("batch", pictures, *TARGET, "--out", pictures / "edited")
    assert len(worked.sent) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "x"], "have the same name"),
        (["--out", "gs://bucket"], "give a folder or s3://bucket/prefix"),
        (["--out", "s3://"], "write it as s3://bucket/prefix"),
        (["--out", "pictures/notes.txt"], "this is no folder"),
        (["--param", "stepps=3"], "stepps: no option"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_submitted(
    worked: Cli, pictures: Path, words: list[str], message: str
) -> None:
    assert message in str(worked.error("batch", pictures, *TARGET, *words, code=2)["message"])
    assert worked.sent == []


def test_what_would_refuse_each_row_ends_the_command(cli: Cli, pictures: Path) -> None:
    def send(job: Job) -> None:
        raise StoreRefused("wrong keys")

    cli.on_send = send
    assert cli.error("batch", pictures, *TARGET, code=3)["error"] == "store_refused"


def test_results_that_cannot_be_written_end_the_command_and_are_written_by_the_next(
    worked: Cli, pictures: Path
) -> None:
    Path("out").mkdir()
    Path("out/more").write_text("a file where a folder must be")
    assert worked.error("batch", pictures, *TARGET, code=3)["error"] == "output_unavailable"
    Path("out/more").unlink()
    assert worked.json("batch", pictures, *TARGET)["done"] == 3
    assert len({job.id for job in worked.sent}) == 3


def test_a_result_is_fetched_again_when_s3_was_away(
    worked: Cli, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, away = type(worked.object_store).get, ["once", "twice"]

    def get_later(store: object, key: str) -> bytes:
        if key.startswith("artifacts/result") and away:
            away.pop()
            raise StoreUnavailable("away")
        return bytes(get(store, key))

    monkeypatch.setattr(type(worked.object_store), "get", get_later)
    assert worked.json("batch", pictures, *TARGET)["done"] == 3
    assert away == []


def test_progress_is_a_line_from_time_to_time_and_a_bar_on_a_terminal(
    cli: Cli, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(job: Job) -> None:
        error = ErrorInfo(stage=None, code="empty_mask", message="no difference")
        cli.job_store.end_job(job.id, State.FAILED, error) if len(cli.sent) == 1 else cli.succeed(job)

    cli.on_send = send
    monkeypatch.setattr(batch_progress, "LINE_EVERY", 0.0)
    lines = cli("batch", pictures, *TARGET, code=1).stderr.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"{number} of 3 rows" for number in (1, 2, 3)]
    assert "1 empty_mask, 0% cached" in lines[-1]
    monkeypatch.setattr(main.err, "_force_terminal", True)
    monkeypatch.setattr(main.err, "_environ", {"TERM": "xterm"})
    assert "1/1" in cli("batch", pictures, *TARGET, "--retry-failed", code=0).stderr


def test_a_sweep_makes_files_a_sheet_and_a_page(worked: Cli, image: Path) -> None:
    words = ["--source", "a bowl", "--target", "pears", "--target", "lemons", "--guidance", "3,5", "--sheet", "webp"]
    answer = worked.json("sweep", image, *words)
    assert (answer["edits"], answer["failed"]) == (4, 0)
    asked = {(job.request.target_prompt, job.request.params.guidance_scale) for job in worked.sent}
    assert asked == {(target, scale) for target in ("pears", "lemons") for scale in (3, 5)}
    assert len({job.request.params.seed for job in worked.sent}) == 1
    assert sorted(path.name for path in Path("sweep").iterdir()) == [
        *(f"{number}.png" for number in range(1, 5)),
        "report.html",
        "sheet.webp",
    ]
    with Image.open("sweep/sheet.webp") as sheet:
        assert sheet.format == "WEBP" and sheet.width > 512


def test_a_sweep_shows_what_failed(cli: Cli, image: Path) -> None:
    error = ErrorInfo(stage=None, code="empty_mask", message="no difference")
    cli.on_send = lambda job: cli.job_store.end_job(job.id, State.FAILED, error)
    assert "2 edits, 2 failed" in cli("sweep", image, *TARGET, "--seed", "1,2", code=1).stdout
    assert "empty_mask" in Path("sweep/report.html").read_text()


def test_a_sweep_is_refused_before_it_submits(worked: Cli, image: Path) -> None:
    assert worked.error("sweep", image, *TARGET, "--sheet", "gif", code=2)["error"] == "invalid_request"
    assert worked.error("sweep", "none.png", *TARGET, code=2)["error"] == "bad_picture"
    assert worked.sent == []
