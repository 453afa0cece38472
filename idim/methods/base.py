r"""The contract of a method: one way of tuning a network, attached to it, trained, merged or taken off.

A network answers :math:`f(x; \theta_0)`. A method gives it numbers :math:`\phi` to train and answers
:math:`f_m(x; \theta_0, \phi)`, equal to the network's own answer, or close to it, at the start. Where
:math:`f_m(x; \theta_0, \phi) = f(x; \theta(\phi))` for a :math:`\theta(\phi)` of the network's own shape, the method
*merges*: :meth:`Attached.merge` returns the network at :math:`\theta(\phi)`, and
:math:`\theta(\phi) - \theta_0` is its change.

N. Ding et al., Delta Tuning, 2022, arXiv:2203.06904, whose three groups are those of :data:`Group`: methods
that *add* parameters, that *specify* which ones move, and that *reparameterise* how they move.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from idim.errors import RequestError

Group = Literal["full", "addition", "specification", "reparameterisation"]
OwnRate = tuple[Sequence[nn.Parameter], float]


class CannotAttach(RequestError):
    """The method does not apply to this network: one line that names what it looked for."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may know of the training it is attached for.

    Args:
        seed: everything drawn at random derives from it.
        steps: optimizer steps of the whole training, for methods with a schedule of their own.
    """

    seed: int
    steps: int


class Attached:
    """A method on a network.

    The network is changed in place. Its parameters that require gradients are what is trained; the base's own
    are frozen by :func:`idim.methods.attach` before, except the head, which is not a method's business.

    Attributes:
        module: what is called and trained; the network itself unless the method has to stand around it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of a batch, if anything is."""
        return None

    def own_rates(self) -> Sequence[OwnRate]:
        """Return parameters with a learning rate of their own, each group with its rate."""
        return ()

    def after_step(self, step: int) -> None:
        """Take note that ``step`` optimizer steps are done; the gradients of the last are still there."""

    @abc.abstractmethod
    def stored(self) -> dict[str, Tensor]:
        """Return all that has to be kept, beside the base and the head, to answer like this again."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`stored` gave, on a fresh attachment of the same method to the same base.

        Here each tensor goes into the parameter or buffer of its name; a method whose stored form is another says how.

        Raises:
            RequestError: for a tensor of an unknown name or another shape.
        """
        own = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name not in own or own[name].shape != tensor.shape:
                    raise RequestError(
                        f"what is restored must be tensors of the attached network; received {name!r} "
                        f"of shape {list(tensor.shape)}"
                    )
                own[name].copy_(tensor)

    def origin(self) -> dict[str, Tensor]:
        """Return the parameters, by name, at which the change starts elsewhere than at the base's: rounded ones."""
        return {}

    def merge(self) -> nn.Module:
        """Return the network at theta(phi), of the base's own modules and names; the method is off it then.

        Raises:
            RequestError: when the method has no theta(phi).
        """
        raise RequestError("this method is no change of the network's own parameters: it cannot be merged")

    @abc.abstractmethod
    def detach(self) -> nn.Module:
        """Return the network as it was: modules, names and parameters, bit for bit (the head keeps what it learned)."""


@dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """One way of tuning; its options are its fields, frozen and checked.

    Attributes:
        name: what a user types.
        group: of Ding et al. 2022.
        source: authors, year, title, where.
    """

    name: ClassVar[str]
    group: ClassVar[Group]
    source: ClassVar[str]

    @property
    def merges(self) -> bool:
        """Whether :meth:`Attached.merge` gives a network."""
        return True

    @property
    def through(self) -> bool:
        """Whether back-propagation passes through the whole network, so that its activations are kept."""
        return True

    def written(self) -> str:
        """Return the shortest text that :func:`idim.methods.parse` makes into the same method."""
        fields = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        options = ",".join(f"{f.name}={_text(getattr(self, f.name))}" for f in fields)
        return f"{self.name}:{options}" if options else self.name

    @abc.abstractmethod
    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put the method on a network whose own parameters are frozen, in place.

        Raises:
            CannotAttach: when the network has no place for it; the network is as before then.
        """


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def fill(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of the same names.

    Raises:
        RequestError: when names or shapes differ; nothing is copied then.
    """
    wanted, found = _shapes(own), _shapes(tensors)
    if wanted != found:
        name = min(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise RequestError(
            f"what is restored must be what was stored: {name!r} of shape {wanted.get(name)}; "
            f"received {found.get(name)}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
