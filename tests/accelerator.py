"""A second device without a second device: what works here does not lean on memory of the CPU.

Within :class:`Accelerator` tensors on the device "meta" are not empty: they are :class:`There`,
which hide a tensor of the CPU, and every operation is done on what they hide. As on a GPU,
operations refuse tensors of both devices (but single numbers, and indices on the CPU), and
``.numpy()`` wants ``.cpu()`` first. The code under test takes its paths for other devices than the
CPU. It says nothing of rounding, of order in sums, or of speed.
"""

from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = "meta"
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
MOVES = ("_to_copy", "copy_", *INDEXED)


class There(Tensor):
    """A tensor on the other device; ``held`` is where its numbers are."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "There":
        place = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        kind = {"dtype": held.dtype, "device": DEVICE}
        made = Tensor._make_wrapper_subclass(cls, held.shape, **place, **kind)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})

    def new_tensor(self, data: Any) -> Tensor:  # torch gives an empty one on this device
        return torch.as_tensor(data, dtype=self.dtype).to(self.device)


def _done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the hidden tensors; RuntimeError for those of two devices."""
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, There)]
    target = kwargs.get("device")
    goes_there = target is not None and torch.device(target).type == DEVICE
    if not there and not goes_there:
        return func(*args, **kwargs)
    _require_one_device(name, args, tensors)
    own = kwargs | ({"device": "cpu"} if goes_there else {})
    found = func(*tree_map_only(There, _held, args), **tree_map_only(There, _held, own))
    if target is not None and not goes_there:
        return found
    if name == "_conj":  # its mark would be read twice
        return There(found.resolve_conj())
    if name == "copy_" and not isinstance(args[0], There):
        return args[0]
    wrapped = tree_map_only(Tensor, There, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


def _held(tensor: There) -> Tensor:
    return tensor.held


def _require_one_device(name: str, args: Any, tensors: list[Tensor]) -> None:
    here = [x for x in tensors if not isinstance(x, There) and x.ndim]
    there = [x for x in tensors if isinstance(x, There)]
    beside = name in INDEXED and not isinstance(args[0], There)
    if there and (beside or (here and name not in MOVES)):
        raise RuntimeError(f"{name}: got tensors of two devices")


class Accelerator(TorchDispatchMode):
    """Within it the device "meta" computes."""

    def __enter__(self) -> Any:
        self._patches = [
            mock.patch.object(torch, "Generator", _Generator),
            mock.patch.object(Tensor, "__getitem__", _getitem),
            mock.patch.object(Tensor, "__setitem__", _setitem),
        ]
        for patch in self._patches:
            patch.start()
        torch._C._set_only_lift_cpu_tensors(True)  # arrays are copied to the device, as they are
        return super().__enter__()

    def __exit__(self, *given: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        for patch in self._patches:
            patch.stop()
        super().__exit__(*given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


class _Generator(torch.Generator):
    """One of the CPU, where the numbers are drawn, whatever device is asked for."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, "cpu")


# Torch makes the index of a list on the device of the tensor, where it would be empty.
GETITEM, SETITEM = Tensor.__getitem__, Tensor.__setitem__


def _listed(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_listed, key))
    return torch.tensor(key) if isinstance(key, list) else key


def _getitem(self: Tensor, key: Any) -> Tensor:
    return GETITEM(self, _listed(key))


def _setitem(self: Tensor, key: Any, value: Any) -> None:
    SETITEM(self, _listed(key), value)
