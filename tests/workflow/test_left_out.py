"""An optional data set that cannot be reached is left out, said once, and tried again."""

TABLE = "session_id\tsubject\tpath\tbytes\tsha256\nfar\tm1\thttps://127.0.0.1:9/far.nwb\t10\t{}\n"


def test_an_unreachable_optional_data_set_is_left_out_and_tried_again(work, tiny_study):
    content = tiny_study()
    content["datasets"] = {"away": {"manifest": "data_manifests/away.yaml", "optional": True}}
    content["runs"]["states"]["dataset"] = "away"
    made = work(content)
    page = (made.folder / "data_manifests" / "tiny.yaml").read_text()
    (made.folder / "data_manifests" / "away.yaml").write_text(page)
    (made.folder / "data_manifests" / "away.tsv").write_text(TABLE.format("0" * 64))
    code, said = made.snakemake("--cores", "2", "pipelines")
    assert code == 0, said
    assert said.count("SKIPPED data set away") == 1
    report = (made.results / "report" / "index.html").read_text()
    assert "away" in report
    assert not list(made.results.glob("fit/*"))
    assert "fetch_optional" in made.jobs("--cores", "2")
