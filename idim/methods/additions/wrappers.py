"""Modules around a module of a network: some add an adapter's answer, one stands around a whole transformer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Behind(nn.Module):
    """F(x) + A(F(x))."""

    def __init__(self, inner: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.inner, self.adapter = inner, adapter

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the inner module answers, adapted."""
        hidden: Tensor = self.inner(*args, **kwargs)
        adapted: Tensor = hidden + self.adapter(hidden)
        return adapted


class Beside(nn.Module):
    """F(x) + scale * A(x)."""

    def __init__(self, inner: nn.Module, adapter: nn.Module, *, scale: float = 1.0) -> None:
        super().__init__()
        self.inner, self.adapter, self.scale = inner, adapter, scale

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the sum for x."""
        adapted: Tensor = self.inner(hidden) + self.scale * self.adapter(hidden)
        return adapted


class BesideClosing(nn.Module):
    """The end of a post-norm MLP, LN(x + G(g)), as LN(x + scale * A(x) + G(g)), where G(g) is the MLP's answer to x."""

    def __init__(self, inner: nn.Module, adapter: nn.Module, *, scale: float) -> None:
        super().__init__()
        self.inner, self.adapter, self.scale = inner, adapter, scale

    def forward(self, gates: Tensor, residual: Tensor) -> Tensor:
        """Return the layer's answer from the MLP's inner values g and its input x."""
        closed: Tensor = self.inner(gates, residual + self.scale * self.adapter(residual))
        return closed


class BehindNorm(nn.Module):
    """The end of a post-norm MLP, LN(x + y) with y = G(g), as LN(x + y + A(LN(x + y)))."""

    def __init__(self, inner: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.inner, self.adapter = inner, adapter

    def forward(self, gates: Tensor, residual: Tensor) -> Tensor:
        """Return the layer's answer from the MLP's inner values g and its input x."""
        parts: Any = self.inner
        summed = residual + parts.dropout(parts.dense(gates))
        closed: Tensor = parts.LayerNorm(summed + self.adapter(parts.LayerNorm(summed)))
        return closed


class Around(nn.Module):
    """A transformer of ``transformers`` inside something that is called as it is.

    Args:
        inner: a model without an output layer.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @property
    def config(self) -> Any:
        """The configuration of the transformer."""
        return self.inner.config

    def get_input_embeddings(self) -> Any:
        """Return the transformer's input embeddings, by which an output layer around it is found."""
        inner: Any = self.inner
        return inner.get_input_embeddings()
