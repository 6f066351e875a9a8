"""Presets from the submit to the ZIP, with a runner whose files are invented."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from pydantic import ValidationError

from control.store.tables import Output, Source
from infra.s3 import TigrisStorage
from runner.contract import NOTES_MAX, ExtraFile, OutputReport, Preset, SourceReport
from tests.support.maker import Maker, bucket, code, facts, manifest_of, put, stored
from tests.support.processes import until
from tests.support.user import outputs


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("web-optimized", ["ad/ad_web-optimized.mp4", "b/b_web-optimized.mp4"]),
        ("hls", ["ad/ad_hls/", "b/b_hls/"]),
        ("copy", ["ad/ad_copy.mp4", "b/b_copy.mp4"]),
        ("default", ["ad/ad_copy.mp4", "b/b_copy.mp4"]),
    ],
)
@pytest.mark.parametrize("kind", ["jobs", "batches"])
def test_a_preset_makes_one_output_of_each_source(
    maker: Maker, preset: str, names: list[str], kind: str
) -> None:
    made = outputs(maker.submit("ad.mp4", "b.mov", kind=kind, preset=preset, seed=3))
    assert [output["name"] for output in made] == names
    assert {output["preset"] for output in made} == {"copy" if preset == "default" else preset}
    assert {str(output["effects"]) for output in made} == {"{}"}


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"variations": None, "preset": None},
        {"variations": 2, "preset": "copy"},
        {"preset": "COPY"},
        {"preset": ""},
        {"preset": 1},
        {"variations": 0},
        {"variations": 101},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["jobs", "batches"])
def test_neither_both_and_unknown_are_422(maker: Maker, wish: dict[str, Any], kind: str) -> None:
    sources = [{"source_id": maker.source()}]
    assert code(maker.http.post(f"/api/{kind}", json={"sources": sources, **wish})) == (422, "invalid")


def test_the_runner_receives_the_preset_and_where_each_file_goes(maker: Maker) -> None:
    spec = maker.claim(maker.submit(preset="hls")["jobs"][0]["job_id"])
    (output,) = spec.outputs
    assert (output.preset, output.effects) == (Preset.HLS, None)
    assert output.playlist
    assert output.poster
    assert output.media_name == "media.mp4"
    urls = {output.put_url, output.playlist.url, output.poster.url}
    assert len(urls) == 3
    for target in (output.playlist, output.poster):
        assert target.headers["If-None-Match"] == "*"
        put(target.url, target.headers, b"first")
        assert bucket().put(target.url, headers=target.headers, content=b"second").status_code == 412
        assert bucket().put(target.url, content=b"second").status_code == 403


def test_the_runner_receives_a_name_for_each_variation_that_is_the_same_each_time(maker: Maker) -> None:
    spec = maker.claim(maker.submit(variations=3)["jobs"][0]["job_id"])
    assert sorted(output.label for output in spec.outputs) == ["var01", "var02", "var03"]


def test_other_outputs_have_a_poster_and_no_playlist(maker: Maker) -> None:
    for wish in ({"preset": "copy"}, {"variations": 1}):
        (output,) = maker.claim(maker.submit(**wish)["jobs"][0]["job_id"]).outputs
        assert output.poster
        assert output.playlist is None
        assert (output.preset is None) == (output.effects is not None)


def test_the_zip_holds_both_files_of_hls_and_its_manifest_says_so(maker: Maker) -> None:
    batch = maker.make(b"media", names=["my ad.mov"], preset="hls")
    answer = maker.http.get(f"/api/batches/{batch['batch_id']}/download")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = "my ad/my ad_hls/"
    assert list(members) == [folder + "playlist.m3u8", folder + "media.mp4", "manifest.csv", "manifest.json"]
    assert members[folder + "media.mp4"] == b"media"
    (entry,) = manifest_of(members)["outputs"]
    assert (entry["file"], entry["preset"], entry["effects"]) == (folder, "hls", {})
    for listed in (entry["files"], [{"file": f["name"], **f} for f in outputs(batch)[0]["files"]]):
        for file in listed:
            own = facts(members[file["file"]])
            assert (file["size_bytes"], file["sha256"]) == (own["size_bytes"], own["sha256"])


# --- control looks before it believes ---------------------------------------------------------------


def hls_report(maker: Maker) -> tuple[Any, OutputReport]:
    spec = maker.claim(maker.submit(preset="hls")["jobs"][0]["job_id"])
    return spec, stored(spec.outputs[0], b"media")


@pytest.mark.parametrize(
    "playlist",
    [None, ExtraFile(**facts(b"another")), ExtraFile(**{**facts(b"x"), "size_bytes": 44})],
    ids=["none", "other bytes", "other md5"],
)
def test_without_its_playlist_as_reported_an_hls_output_is_not_ready(
    maker: Maker, playlist: ExtraFile | None
) -> None:
    spec, report = hls_report(maker)
    answer = maker.finish(spec, [report.model_copy(update={"playlist": playlist})])
    assert answer.status_code == 200
    job = maker.show(spec.attempt_id.rpartition("-")[0])
    assert outputs(job)[0]["status"] == "queued", "it is made again"
    assert job["attempts"][0]["reason"] == "storage_unavailable"
    assert job["attempts"][0]["reason_text"] == "The storage did not answer."


@pytest.mark.parametrize(
    "poster", [None, ExtraFile(**facts(b"another"))], ids=["none", "not as in the bucket"]
)
def test_a_poster_that_is_not_as_reported_is_left_out_and_costs_nothing(
    maker: Maker, poster: ExtraFile | None
) -> None:
    spec, report = hls_report(maker)
    maker.finish(spec, [report.model_copy(update={"poster": poster})])
    (output,) = outputs(maker.show(spec.attempt_id.rpartition("-")[0]))
    assert (output["status"], output["poster"]) == ("ready", False)


def test_a_playlist_of_an_output_that_has_none_is_not_heeded(maker: Maker) -> None:
    spec = maker.claim(maker.submit(preset="copy")["jobs"][0]["job_id"])
    report = stored(spec.outputs[0], b"media")
    maker.finish(spec, [report.model_copy(update={"playlist": ExtraFile(**facts(b"x"))})])
    (output,) = outputs(maker.show(spec.attempt_id.rpartition("-")[0]))
    assert (output["status"], output["files"]) == ("ready", None)


def test_what_is_deleted_goes_with_playlist_and_poster(maker: Maker, storage: TigrisStorage) -> None:
    batch = maker.make(b"media", preset="hls")
    with maker.store.transaction() as tx:
        row = tx.session.get_one(Output, outputs(batch)[0]["output_id"])
        keys = [row.key, row.playlist["key"], row.poster["key"]]
    assert all(storage.head(key) for key in keys)
    assert maker.http.delete(f"/api/batches/{batch['batch_id']}").status_code == 204
    until(lambda: not any(storage.head(key) for key in keys))


@pytest.mark.parametrize(
    ("preset", "container", "name"),
    [("copy", "mov", "ad/ad_copy.mov"), ("copy", "mp4", "ad/ad_copy.mp4"), ("hls", "mov", "ad/ad_hls/")],
)
def test_a_copy_is_named_by_the_container_that_could_hold_it(
    maker: Maker, preset: str, container: str, name: str
) -> None:
    spec = maker.claim(maker.submit(preset=preset)["jobs"][0]["job_id"])
    report = stored(spec.outputs[0], b"media")
    file = report.file and report.file.model_copy(update={"container": container})
    maker.finish(spec, [report.model_copy(update={"file": file})])
    (output,) = outputs(maker.show(spec.attempt_id.rpartition("-")[0]))
    assert (output["status"], output["name"]) == ("ready", name)
    sent = maker.http.get(f"/api/outputs/{output['output_id']}").headers["location"]
    assert ("video%2Fquicktime" in sent) is name.endswith(".mov")
    assert (".mov" in sent) is name.endswith(".mov")


def test_what_a_machine_notes_on_its_sources_is_shown_with_them(maker: Maker) -> None:
    spec = maker.claim(maker.submit("ad.mp4", variations=1)["jobs"][0]["job_id"])
    other = maker.source("other.mp4")
    mine = spec.sources[0].source_id
    notes = ["Only 2.0 s of 4.0 s of the picture could be decoded.", "Cut."]
    source_reports = [SourceReport(source_id=id_, notes=notes) for id_ in (mine, mine, other, "src_unknown")]
    end = [stored(spec.outputs[0], b"media")]
    assert maker.finish(spec, end, sources=source_reports).status_code == 200
    (source,) = maker.show(spec.attempt_id.rpartition("-")[0])["sources"]
    assert source["notes"] == notes
    with maker.store.transaction() as tx:
        assert not tx.session.get_one(Source, other).notes
    many = {"source_id": mine, "notes": ["x"] * (NOTES_MAX + 1)}
    with pytest.raises(ValidationError):
        SourceReport.model_validate(many)
