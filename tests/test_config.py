"""The configuration: what is wrong is said with its place, its key and what was meant."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from neuropipe.config import (
    PARAMETERS,
    Run,
    Study,
    build,
    check_study,
    json_schema,
    parameters_class,
    read_study,
)
from neuropipe.errors import ConfigError

ROOT = Path(__file__).parents[1]
STUDY = {
    "study": "small",
    "datasets": {"d": {"manifest": "d.yaml", "preprocess": [{"step": "bin_spikes"}]}},
    "runs": {
        "r": {
            "model": "hmm_glm",
            "dataset": "d",
            "seed": 1,
            "parameters": {"n_states": 2, "history_bins": 7, "min_spikes": 4},
            "split": {"by": "trial", "folds": 2},
            "baselines": ["homogeneous_rate", "poisson_glm"],
        }
    },
}


def changed(path, value):
    """Return the study with one value set; a path is keys joined by dots."""
    study = copy.deepcopy(STUDY)
    *way, last = path.split(".")
    block = study
    for key in way:
        block = block[key]
    block[last] = value
    return study


def test_the_small_study_is_sound():
    assert check_study(STUDY).runs["r"].split.folds == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("titel", "x", "unknown key 'titel'; did you mean 'title'?"),
        ("datasets.d.manifst", "x", "'datasets.d.manifst'; did you mean 'manifest'?"),
        ("runs.r.baseline", [], "'runs.r.baseline'; did you mean 'baselines'?"),
        ("runs.r.split.bufer_s", 1, "'runs.r.split.bufer_s'; did you mean 'buffer_s'?"),
        ("runs.r.split.zzz", 1, "known are by, folds, buffer_s, window_s, blocks_per_fold, column"),
        ("runs.r.split.folds", 1, "runs.r.split.folds: Input should be greater than or equal to 2, "
                                  "found 1"),
        ("runs.r.split.by", "time", "runs.r.split.by: Input should be 'trial', 'block'"),
        ("runs.r.split.buffer_s", -1, "runs.r.split.buffer_s: Input should be greater than"),
        ("runs.r.seed", -1, "runs.r.seed: Input should be greater than or equal to 0, found -1"),
        ("runs.r.model", "hmm_gml", "runs.r.model: unknown name 'hmm_gml'; did you mean "
                                    "'hmm_glm'?"),
        ("runs.r.baselines", ["poison_glm"], "runs.r.baselines: unknown name 'poison_glm'; did you "
                                             "mean 'poisson_glm'?"),
        ("runs.r.baselines", ["hmm_glm"], "runs.r.baselines: 'hmm_glm' is the run's own model"),
        ("runs.r.dataset", "dd", "runs.r.dataset: no data set 'dd'; did you mean 'd'?"),
        ("runs.r.dataset", "xyz", "no data set 'xyz'; known are d"),
        ("runs.r.parameters.n_state", 2, "runs.r.parameters of hmm_glm: unknown key 'n_state'; did "
                                         "you mean 'n_states'?"),
        ("runs.r.parameters.n_states", 99, "n_states: found 99, expected numbers from 1 to 32"),
        ("runs.r.parameters.stay", 1.5, "runs.r.parameters of hmm_glm: stay: Input should be less"),
        ("runs.r.baselines", {"poisson_glm": {"n_basi": 1}}, "runs.r.baselines of poisson_glm: "
                                                             "unknown key 'n_basi'"),
        ("datasets.d.sessions", ["a", "b", "a"], "datasets.d.sessions: .*'a' is listed twice"),
        ("datasets.d.sessions", [], "no session is listed"),
        ("datasets.d.preprocess", [{"bin": 1}], "step 0 lacks the key 'step'"),
        ("datasets.a-b", {"manifest": "x"}, "'a-b' names files: use letters, digits and _ only"),
        ("datasets.splits", {"manifest": "x"}, "'splits' is the name of a folder of results"),
        ("study", "My Study", "study: String should match pattern"),
    ],
)  # fmt: skip
def test_faults(path, value, message):
    with pytest.raises(ConfigError, match=r"^config: ") as caught:
        check_study(changed(path, value))
    assert re.search(message if ".*" in message else re.escape(message), str(caught.value))


def test_all_faults_of_a_block_come_together():
    study = changed("runs.r.seed", -1)
    study["titel"] = "x"
    with pytest.raises(ConfigError, match=r"runs\.r\.seed: .*; unknown key 'titel'"):
        check_study(study)


def test_missing_keys_are_named():
    with pytest.raises(
        ConfigError, match=r"^place: model: Field required; dataset: Field required"
    ):
        build(Run, {"seed": 1, "split": {"by": "trial"}}, "place")


def test_baselines_take_the_settings_that_they_share():
    estimators = check_study(STUDY).runs["r"].estimators()
    assert list(estimators) == ["hmm_glm", "homogeneous_rate", "poisson_glm"]
    assert estimators["homogeneous_rate"] == {"min_spikes": 4}
    assert estimators["poisson_glm"] == {"min_spikes": 4, "history_bins": 7}
    own = changed("runs.r.baselines", {"poisson_glm": {"history_bins": 3}})
    estimators = check_study(own).runs["r"].estimators()
    assert estimators["poisson_glm"] == {"min_spikes": 4, "history_bins": 3}


def test_blocks_are_frozen():
    study = check_study(STUDY)
    with pytest.raises(ValueError, match="frozen"):
        study.study = "other"


def test_every_estimator_has_defaults_and_a_revision():
    from neuropipe.baselines import BASELINES
    from neuropipe.models import MODELS

    assert set(PARAMETERS) == {*MODELS, *BASELINES}
    for name in PARAMETERS:
        cls = parameters_class(name)
        assert cls.model_config["extra"] == "forbid"
        assert isinstance(sys.modules[cls.__module__].REVISION, int)
        cls()


def test_the_default_study_is_sound():
    study = read_study(ROOT / "config" / "config.yaml")
    assert {run.dataset for run in study.runs.values()} <= set(study.datasets)
    assert any(not data.optional for data in study.datasets.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "bad.yaml"),
        ("- a\n", "expected keys and values, found list"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_study(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_study(path)


def test_a_file_is_named_in_its_faults(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed("titel", "x")))
    with pytest.raises(ConfigError, match=r"^mine\.yaml: unknown key 'titel'"):
        read_study(path)


def test_the_published_schema_is_that_of_the_code():
    path = ROOT / "workflow" / "schemas" / "config.schema.json"
    remedy = (
        "write it anew: python -c 'from neuropipe.config import json_schema; "
        'print(json_schema(), end="")\' > workflow/schemas/config.schema.json'
    )
    assert path.read_text() == json_schema(), remedy


def test_the_schema_accepts_the_default_study_and_refuses_a_misspelt_one():
    import json

    import jsonschema

    schema = json.loads(json_schema())
    content = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError, match="titel"):
        jsonschema.validate({**content, "titel": "x"}, schema)
    assert schema["title"] == Study.__name__


def loaded_by(baselines):
    """Return which slow libraries are loaded by checking a study, in a process of its own."""
    code = (
        "import sys; from neuropipe.config import check_study\n"
        f"check_study({changed('runs.r.baselines', baselines)!r})\n"
        "print(*{'torch', 'xarray', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_checking_a_model_loads_nothing_slow():
    """Every job of a workflow reads the configuration again."""
    assert loaded_by([]) == []


def test_checking_baselines_loads_nothing_slow():
    assert loaded_by(["homogeneous_rate", "poisson_glm", "poisson_hmm"]) == []
