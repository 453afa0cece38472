"""The tables that the battery of methods runs over: networks made on the spot, and methods on them.

A new method is one row of ``CASES``: its name with options small enough for these networks, and where it applies.
Where it does not apply, the battery asks it to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idim import methods, models
from idim.methods import Attached, Setting
from idim.models import resnet
from idim.models.init import generator
from idim.models.language import TextModel, packed

CLASSES = 3
WORDS = 50
ROWS = 6
SHAKE = 0.05
SETTING = Setting(seed=3, steps=3)


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network to attach to.

    Args:
        name: of the row.
        build: from a dropout rate to a fresh float32 network, always the same.
        batch: makes inputs for it.
        dtype: of its parameters but the head's.
    """

    name: str
    build: Callable[[float], nn.Module]
    batch: Callable[[], Tensor]
    dtype: torch.dtype = torch.float32

    def make(self, *, dropout: float = 0.0) -> nn.Module:
        """Return the network in eval mode, no parameter at a special value, its head (if any) float32 or finer."""
        model = self.build(dropout)
        draw = generator(0, f"tests/{self.name}")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(SHAKE * torch.randn(parameter.shape, generator=draw))
        model = model.to(self.dtype)
        if models.has_head(model):
            model.get_submodule(models.HEAD).to(torch.promote_types(self.dtype, torch.float32))
        return model.eval()

    def inputs(self) -> Tensor:
        """Return a batch in the network's precision."""
        batch = self.batch()
        return batch.to(self.dtype) if batch.is_floating_point() else batch

    def targets(self) -> Tensor:
        """Return class numbers for the rows of a batch."""
        return torch.randint(CLASSES, (ROWS,), generator=generator(1, "tests/targets"))


def bert(dropout: float = 0.0) -> TextModel:
    """Return an encoder of two layers of 32."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return _text_model(lambda: BertModel(config, add_pooling_layer=False), causal=False)


def llama(dropout: float = 0.0) -> TextModel:
    """Return a decoder of two layers of 32 with grouped keys."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=32, attention_dropout=dropout,
    )  # fmt: skip
    return _text_model(lambda: LlamaModel(config), causal=True)


def _text_model(build: Callable[[], nn.Module], *, causal: bool) -> TextModel:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator(0, "tests/body").get_state())
        body = build()
    return TextModel(body, outputs=CLASSES, causal=causal, generator=generator(0, "tests/head"))


def residual(_: float = 0.0) -> resnet.ResNet:
    """Return a residual network of three blocks."""
    net = resnet.ResNet(8, CLASSES)
    resnet._draw(net, generator(0, "tests/resnet"))
    return net


def tokens() -> Tensor:
    """Return texts of 3 to 9 tokens, the second half of each in the second sentence."""
    draw = generator(2, "tests/tokens")
    sizes = torch.randint(3, 10, (ROWS,), generator=draw).tolist()
    numbers = [torch.randint(1, WORDS, (size,), generator=draw).tolist() for size in sizes]
    return packed(numbers, [[int(2 * i >= size) for i in range(size)] for size in sizes])


def pixels() -> Tensor:
    """Return colour images of 16 x 16."""
    return torch.rand(ROWS, 3, 16, 16, generator=generator(2, "tests/pixels"))


def numbers() -> Tensor:
    """Return rows of 12 numbers."""
    return torch.randn(ROWS, 12, generator=generator(2, "tests/numbers"))


NETS = {
    net.name: net
    for net in (
        Net(name="bert", build=bert, batch=tokens),
        Net(name="llama", build=llama, batch=tokens),
        Net(
            name="resnet",
            build=residual,
            batch=pixels,
        ),
        Net(
            name="mlp",
            build=lambda _: models.build("mlp:16,8", input_shape=(12,), outputs=CLASSES, seed=0),
            batch=numbers,
        ),
    )
}
TEXTS, WITH_BLOCKS, ALL = ("bert", "llama"), ("bert", "llama", "resnet"), ("bert", "llama", "resnet", "mlp")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method, and what it promises.

    Args:
        name: as a user writes it, with options that suit small networks.
        applies: names of the networks it attaches to; it refuses the others.
        starts_at_base: whether the answer at the start is the base's own.
        tolerance: of the answer at the start, and of the merged network's, against the attached one's.
        lr: at which three steps of Adam move it.
        halves: whether it takes a base in bfloat16.
    """

    name: str
    applies: tuple[str, ...] = ALL
    starts_at_base: bool = True
    tolerance: float = 1e-5
    lr: float = 1e-2
    halves: bool = True


CASES = [
    Case(name="full"),
    Case(name="probe", applies=("bert", "llama", "resnet")),
    Case(name="last:k=1"),
    Case(name="bitfit", applies=("bert", "resnet", "mlp")),
    Case(name="norm", applies=WITH_BLOCKS),
    Case(name="random_mask:fraction=0.1"),
    Case(name="diffpruning:fraction=0.1"),
    Case(name="diffpruning:structured=false,settled=0.0"),
    Case(name="masks"),
    Case(name="did:d=50"),
    Case(name="said:d=50"),
    Case(name="lora:rank=4"),
    Case(name="adalora:rank=2,begin=4"),
    Case(name="dora:rank=4"),
    Case(name="qlora:rank=4", applies=("bert", "llama", "mlp"), starts_at_base=False),
    Case(name="vera:rank=16", applies=("bert", "llama", "mlp"), lr=0.1),
    Case(name="unilora:d=20", applies=("bert", "llama", "mlp"), starts_at_base=False, lr=0.1),
    Case(name="tinylora", applies=("bert", "llama", "mlp"), lr=0.1),
    Case(name="adapter:width=8", applies=WITH_BLOCKS),
    Case(name="adapter:kind=pfeiffer,width=8", applies=WITH_BLOCKS),
    Case(name="adapter:kind=parallel,width=8", applies=WITH_BLOCKS),
    Case(name="prompt:length=4", applies=TEXTS, starts_at_base=False),
    Case(name="ptuning:length=4", applies=TEXTS, starts_at_base=False),
    Case(name="prefix:length=4,width=16", applies=TEXTS, starts_at_base=False),
    Case(name="ptuning2:length=4", applies=TEXTS, starts_at_base=False),
    Case(name="ladder", applies=WITH_BLOCKS),
    Case(name="adapter:width=8+prompt:length=4", applies=TEXTS, starts_at_base=False),
    Case(name="lora:rank=4+prefix:length=4,width=16", applies=TEXTS, starts_at_base=False),
]


def attach(case: Case, model: nn.Module, *, seed: int = SETTING.seed) -> Attached:
    """Attach the method of a case."""
    return methods.attach(methods.parse(case.name), model, Setting(seed=seed, steps=SETTING.steps))


def answer(module: nn.Module, net: Net) -> Tensor:
    """Return the answers in eval mode, float32."""
    module.eval()
    with torch.no_grad():
        found: Tensor = module(net.inputs())
    return found.float()


def loss_of(attached: Attached, net: Net) -> Tensor:
    """Return the loss of the batch, penalty included."""
    value = nn.functional.cross_entropy(attached.module(net.inputs()).float(), net.targets())
    penalty = attached.penalty()
    return value if penalty is None else value + penalty


def train(attached: Attached, net: Net, *, lr: float, steps: int = SETTING.steps) -> list[float]:
    """Train as a run does; return the losses."""
    attached.module.train()
    own = attached.own_rates()
    apart = {id(p) for group, _ in own for p in group}
    rest = [p for p in attached.module.parameters() if p.requires_grad and id(p) not in apart]
    groups = [{"params": rest, "lr": lr}, *({"params": list(group), "lr": rate} for group, rate in own)]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=lr)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(attached, net)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        attached.after_step(step + 1)
    attached.module.eval()
    return losses
