r"""The subspaces of this package as methods: :math:`\theta = \theta_0 + P z` over the whole body.

The network is copied into a :class:`~idim.subspace.Subspace`, which is what is called and trained; the network itself
waits, its parameters being the theta0 of the subspace, and is what :meth:`~idim.methods.base.Attached.detach` gives
back. The head is trained directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from idim import projections
from idim.errors import RequestError
from idim.methods.base import Attached, CannotAttach, Group, Method, Setting
from idim.methods.options import at_least
from idim.methods.places import body_parameters, nothing
from idim.models import HEAD, has_head
from idim.subspace import Subspace


class Around(Attached):
    """A subspace around a copy of a network.

    Args:
        space: the subspace.
        model: the network that it was made from.
    """

    module: Subspace

    def __init__(self, space: Subspace, model: nn.Module) -> None:
        super().__init__(space)
        self.model = model
        for name, rows in space.layout.unflatten([flat.detach() for flat in space.theta0]).items():
            model.get_parameter(name).data = rows  # one theta0 in memory, not two

    def stored(self) -> dict[str, Tensor]:
        """Return the coordinates; P is known by its spec."""
        return {"z": self.module.z.detach()}

    def merge(self) -> nn.Module:
        """Return a network of the base's class at theta0 + P z."""
        return self.module.merged()

    def detach(self) -> nn.Module:
        """Return the network that the subspace was made from, with the head as it is now."""
        if has_head(self.model):
            self.model.get_submodule(HEAD).load_state_dict(self.module.model.get_submodule(HEAD).state_dict())
        return self.model


@dataclass(frozen=True, kw_only=True)
class DID(Method):
    """A random subspace of the whole body, d coordinates.

    Args:
        d: number of coordinates.
        projection: kind of P, as for :func:`idim.projections.create`.
    """

    name: ClassVar[str] = "did"
    group: ClassVar[Group] = "reparameterisation"
    source: ClassVar[str] = (
        "C. Li et al., Measuring the Intrinsic Dimension of Objective Landscapes, 2018, arXiv:1804.08838; "
        "A. Aghajanyan et al., Intrinsic Dimensionality, 2020, arXiv:2012.13255"
    )

    d: int = 1000
    projection: str = "hadamard"

    def __post_init__(self) -> None:
        at_least(self.name, 1, d=self.d)
        kind = "decoder" if "decoder:" in self.projection else "basis"
        if f"{kind}:" in self.projection and projections.resolve(self.projection) != self.projection:
            raise RequestError(f"method {self.name!r} names a {kind} by its hash; received {self.projection!r}")

    @property
    def kind(self) -> str:
        """The projection's name."""
        return self.projection

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put the network's body into a subspace.

        Raises:
            CannotAttach: when it has no float parameters, or there is no such P over them.
        """
        body = [p for p in body_parameters(model).values() if p.is_floating_point()]
        if not body:
            raise nothing(self.name, model, "float parameters")
        train = (f"{HEAD}.*",) if has_head(model) and _moves(model.get_submodule(HEAD)) else ()
        try:
            for parameter in body:
                parameter.requires_grad_(True)
            space = Subspace(model, projection=self.kind, d=self.d, seed=setting.seed, train=train)
        except RequestError as error:
            raise CannotAttach(f"method {self.name!r} has no place here: {error}") from error
        finally:
            for parameter in body:
                parameter.requires_grad_(False)
        return Around(space, model)


@dataclass(frozen=True, kw_only=True)
class SAID(DID):
    """A random subspace with one learned scale a layer, which count inside d.

    Args:
        d: number of coordinates, scales included; more than the layers.
        projection: kind of P under the scales.
    """

    name: ClassVar[str] = "said"

    @property
    def kind(self) -> str:
        """The projection's name, with scales."""
        return f"layerwise:{self.projection}"


def _moves(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())
