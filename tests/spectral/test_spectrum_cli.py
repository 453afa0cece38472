"""``idim spectrum`` as a user meets it: files and a table, or one line and status 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from spectrum_cases import QUERY, encoder, pair, tuned, write

from idim import Subspace
from idim.cli import main
from idim.spectral.report.spectrum_report import SpectrumReport


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    return pair(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, a second each, where a test looks at numbers."""
    monkeypatch.setattr(SpectrumReport, "_pictures", lambda self: iter(()))


def served(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the program prints, after checking that it ends well."""
    with pytest.raises(SystemExit) as leaving:
        main(["spectrum", *arguments])
    assert leaving.value.code == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a request that cannot be served, after checking that it is one."""
    with pytest.raises(SystemExit) as leaving:
        main(["spectrum", "--quiet", *arguments])
    out, err = capsys.readouterr()
    assert (leaving.value.code, out) == (2, "")
    assert err.startswith("idim: ")
    assert err.count("\n") == 1
    return err


def test_files_and_table(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    printed = served(capsys, *models, "--out", str(out))
    assert {"report.json", "matrices.parquet", "spectrum.png"} <= {path.name for path in out.iterdir()}
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert printed.splitlines()[-1] == f"wrote report.json, matrices.parquet and the pictures in {out}"
    assert "low-rank" in printed
    content = json.loads((out / "report.json").read_text())
    assert (content["base"], content["tuned"]) == models
    assert {row["verdict"] for row in content["matrices"]} == {"low-rank", "full-rank", "unchanged"}


@pytest.mark.usefixtures("no_pictures")
def test_quiet_prints_nothing(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert served(capsys, *models, "--out", str(tmp_path / "out"), "--quiet", "--include", "*.query.*") == ""
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("no_pictures")
def test_the_default_folder_is_named_by_the_models(
    models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served(capsys, *models, "--quiet", "--include", "*.query.*")
    assert (tmp_path / "idim-out" / "spectrum-base-tuned" / "report.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--false-positive-rate", "0"], "false_positive_rate must be in (0, 0.5); received 0"),
        (["--false-positive-rate", "often"], "'often'"),
        (["--roundings", "0"], "roundings must be from 1 to 1,000,000,000; received 0"),
        (["--roundings", "2.5"], "'2.5'"),
        (["--seed", "-1"], "seed must be from 0 to 2^63 - 1; received -1"),
        (["--directions", "3"], "directions are compared with --against; received 3 without it"),
        (["--include", ""], "include must be name patterns such as '*.query.*'; received ''"),
        (["--include", "*quary*"], "matches none of 9 tensors; near names: encoder.layer.0.attention.self.query"),
        (["--over", "nowhere"], "--over must be a folder of checkpoints; received nowhere"),
        (["--sede", "3"], "--seed"),
    ],
)
def test_bad_options(
    arguments: list[str], said: str, models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *models, "--out", str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists(), "nothing may be half-written"


def test_too_few_models(models: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "TUNED" in refused(capsys, models[0])


def test_directions_out_of_range(models: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, *models, "--against", models[1], "--directions", "0")
    assert "directions must be from 1 to 4096; received 0" in line


def test_what_is_no_model(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, after = models
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(capsys, base, str(tmp_path / "empty"))
    assert "./nowhere/at/all" in refused(capsys, base, "./nowhere/at/all")
    cut = Path(after) / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    assert "model.safetensors" in refused(capsys, base, after)
    other = write(tmp_path / "other", {"conv1.weight": torch.ones(4, 3, 3, 3)})
    assert "none" in refused(capsys, base, str(other)) or "0 of" in refused(capsys, base, str(other))


def test_a_missing_shard_is_named(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    names = list(encoder())
    index = {name: f"model-0000{1 + (i > 3)}-of-00002.safetensors" for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    first = {name: tensor for name, tensor in encoder().items() if index[name].startswith("model-00001")}
    safetensors.torch.save_file(first, folder / "model-00001-of-00002.safetensors")
    assert "model-00002-of-00002.safetensors" in refused(capsys, models[0], str(folder))


@pytest.mark.usefixtures("no_pictures")
def test_pickles_need_the_flag(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    torch.save(tuned(encoder()), folder / "pytorch_model.bin")
    assert "--pickle" in refused(capsys, models[0], str(folder))
    served(capsys, models[0], str(folder), "--pickle", "--quiet", "--out", str(tmp_path / "out"))
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["summary"]["kinds"]["query"]["rank"] == 4


@pytest.mark.usefixtures("no_pictures")
def test_a_weight_that_is_not_finite_is_a_row_of_skipped(
    models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = tuned(encoder())
    tensors[QUERY.format(0)][0, 0] = float("inf")
    bad = write(tmp_path / "bad", tensors)
    served(capsys, models[0], str(bad), "--out", str(tmp_path / "out"), "--quiet")
    skipped = {
        row["name"]: row["reason"] for row in json.loads((tmp_path / "out" / "report.json").read_text())["skipped"]
    }
    assert QUERY.format(0) in skipped


def test_an_output_folder_that_cannot_be_written_is_found_before_the_work(
    models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert "output folder must be writable" in refused(capsys, *models, "--out", str(tmp_path / "file" / "out"))


@pytest.mark.usefixtures("no_pictures")
def test_a_saved_subspace_is_a_tuned_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(24, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
    write(tmp_path / "base", {name: tensor.detach().clone() for name, tensor in model.state_dict().items()})
    space = Subspace(model, projection="hadamard", d=5, seed=0)
    with torch.no_grad():
        space.z.add_(0.1)
    space.save(tmp_path / "saved")
    served(capsys, str(tmp_path / "base"), str(tmp_path / "saved"), "--quiet", "--out", str(tmp_path / "out"))
    matrices = json.loads((tmp_path / "out" / "report.json").read_text())["matrices"]
    change = {name: tensor - model.state_dict()[name] for name, tensor in space.merged().state_dict().items()}
    assert {row["name"]: row["norm"] for row in matrices} == pytest.approx(
        {name: float(change[name].norm()) for name in ("0.weight", "2.weight")}, rel=1e-4
    )


@pytest.mark.usefixtures("no_pictures")
def test_an_adapter_with_and_without_its_base(
    models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    model = transformers.BertModel(config)
    model.save_pretrained(tmp_path / "bert")
    lora = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"]))
    for name, parameter in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    lora.save_pretrained(tmp_path / "lora")
    for base in (str(tmp_path / "bert"), "-"):
        served(capsys, base, str(tmp_path / "lora"), "--out", str(tmp_path / "out"), "--quiet")
        content = json.loads((tmp_path / "out" / "report.json").read_text())
        found = {
            row["name"].split(".")[-2]: (row["verdict"], row["rank"]) for row in content["matrices"] if row["norm"]
        }
        assert found == {"query": ("low-rank", 4), "value": ("low-rank", 4)}
        assert (content["summary"]["kinds"]["query"]["relative"] is None) == (base == "-")
