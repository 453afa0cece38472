"""Two gloo processes: the gradient of the whole batch, and only the bytes of d numbers on the wire."""

from __future__ import annotations

import gc
import multiprocessing
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from subspace_cases import explicit, generator, mlp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from idim.subspace import Subspace

WORLD = 2


def inputs() -> Tensor:
    return torch.randn(8, 20, generator=generator(1))


def make(seed: int = 0) -> Subspace:
    return explicit(mlp(20, 30, 30, 3, seed=seed), d=16, train="4.bias", exclude="0.bias")


def train(space: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        space(x).square().mean().backward()
        optimizer.step()


def worker(rank: int, folder: str) -> None:
    """Train on one half of the rows from a model of another seed on each rank: DDP makes them one."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    space = make(seed=rank)
    ddp = DistributedDataParallel(space)
    sent = torch.zeros(1, dtype=torch.int64)

    def count(_, bucket):  # torch refuses annotations that are strings
        buffer = bucket.buffer()
        sent.add_(buffer.numel() * buffer.element_size())
        work = dist.all_reduce(buffer.div_(WORLD), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    ddp.register_comm_hook(None, count)
    optimizer = torch.optim.SGD(space.parameters(), lr=0.5)
    train(ddp, inputs().chunk(WORLD)[rank], optimizer)
    save_file({**space.state_dict(), "grad": space.z.grad, "sent": sent}, f"{folder}/{rank}.safetensors")
    # Gloo's threads hold the hook above. Left to the end of the interpreter, one that then asks for its lock aborts.
    del ddp
    gc.collect()
    dist.destroy_process_group()


def test_two_processes_train_as_one_and_send_d_numbers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=worker, args=(rank, str(tmp_path))) for rank in range(WORLD)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 120
    for process in processes:
        process.join(deadline - time.monotonic())
        assert process.exitcode == 0
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(WORLD))
    assert all(torch.equal(first[name], second[name]) for name in first)

    space = make()
    train(space, inputs(), torch.optim.SGD(space.parameters(), lr=0.5))
    torch.testing.assert_close(first["grad"], space.z.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first["z"], space.z.detach(), rtol=1e-4, atol=1e-6)
    trained = 16 + 3  # z and the bias that is trained directly
    assert first["sent"].item() == 3 * trained * 4
