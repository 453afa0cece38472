"""Adapters and saved subspaces as tuned models: their deltas are those of the models that they make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import idim
from idim.cli import main
from idim.errors import RequestError
from idim.learned.vectors import Vectors, layout_of, open_model


class Net(nn.Module):
    """Two layers and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.last = nn.Linear(6, 5), nn.Conv2d(2, 3, 2), nn.Linear(5, 4)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(inputs).relu())
        return out


def model(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def subspace(folder: Path, seed: int) -> tuple[Path, dict[str, Tensor]]:
    """Save a subspace with some z; return the folder and the network it makes."""
    space = idim.Subspace(Net(), projection="dense", d=3, seed=seed)
    space.z.data = torch.randn(3, generator=torch.Generator().manual_seed(seed))
    space.save(folder)
    return folder, dict(space.merged().state_dict())


def vectors(base: Path, places: list[Path]) -> Tensor:
    source = open_model(base)
    tuned = [open_model(place, base=source) for place in places]
    chunks = Vectors(tuned, base=source, layout=layout_of(source)).chunks()
    return torch.cat([x.clone() for _, x in chunks], dim=1)


def test_saved_subspaces_are_tuned_models(tmp_path: Path) -> None:
    base = model(tmp_path / "base.safetensors", dict(Net().state_dict()))
    made = [subspace(tmp_path / f"space-{seed}", seed) for seed in (1, 2)]
    whole = [model(tmp_path / f"{i}.safetensors", tensors) for i, (_, tensors) in enumerate(made)]
    torch.testing.assert_close(vectors(base, [folder for folder, _ in made]), vectors(base, whole), atol=1e-7, rtol=0)


def test_adapters_are_tuned_models(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base, places, whole = model(tmp_path / "base.safetensors", dict(Net().state_dict())), [], []
    for seed in (1, 2, 3):
        adapted = peft.get_peft_model(Net(), peft.LoraConfig(r=2, target_modules=["first", "last"]))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) / 10
        places.append(tmp_path / f"adapter-{seed}")
        adapted.save_pretrained(places[-1])
        merged = adapted.merge_and_unload().state_dict()
        whole.append(model(tmp_path / f"merged-{seed}.safetensors", dict(merged)))
    found = vectors(base, places)
    assert float(found.norm()) > 0.1
    torch.testing.assert_close(found, vectors(base, whole), atol=1e-6, rtol=0)

    arguments = ["subspace", "learn", "deltas", base, *places, "--out", tmp_path / "basis.safetensors", "--quiet"]
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert left.value.code == 0
    assert len(json.loads((tmp_path / "basis.json").read_text())["names"]) == 3


def test_a_change_is_no_model_by_itself_and_not_of_another_base(tmp_path: Path) -> None:
    folder, _ = subspace(tmp_path / "space", 1)
    with pytest.raises(RequestError, match="which changes a base: merge it"):
        open_model(folder)
    other = {name: tensor + 1 for name, tensor in Net().state_dict().items()}
    with pytest.raises(RequestError, match="the base must be that of"):
        open_model(folder, base=open_model(model(tmp_path / "other.safetensors", other)))


def test_overlapping_tasks_are_no_unseen_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["subspace", "evaluate", "basis", "base", "tuned"]
    for more, message in (
        (["--unseen", "digits", "--learned-from", "digits"], "digits and digits, which share 1,797 rows (100.0% of"),
        (["--unseen", "digits"], "name both, or neither"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*asked, *more])
        assert left.value.code == 2
        assert message in capsys.readouterr().err
