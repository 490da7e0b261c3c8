from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only


class PretendedCuda(FakeTensorMode):
    """CUDA where there is none: tensors on it have shapes, types and devices, but no values; those on the CPU are real.

    It refuses what a GPU refuses, tensors of two devices in one operation (numbers aside), and remembers in `waits` for
    what the CPU would have to wait: a number that it reads, or a copy, from the host too, that is not `non_blocking`. A
    number read is 1. Shapes that depend on values (masks, nonzero, unique) raise PyTorch's own error. There are no
    gradients.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        real = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        device = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        if len(real) == len(tensors) and device != "cuda":
            return func(*args, **kwargs)
        aten = torch.ops.aten
        if func is aten._local_scalar_dense.default:
            self.waits.append("a number is read")
            return torch.ones((), dtype=args[0].dtype).item()
        if func is aten._to_copy.default and (real or device == "cpu"):
            self._copies(kwargs.get("non_blocking"))
            if real:
                (source,) = args
                like = {"dtype": kwargs.get("dtype") or source.dtype, "device": torch.device("cuda")}
                empty, shape = aten.empty_strided.default, (source.shape, source.stride())
                return super().__torch_dispatch__(empty, (), shape, like)
        elif func is aten.copy_.default and len({tensor.device.type for tensor in tensors}) > 1:
            self._copies(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        else:
            beside = [tuple(tensor.shape) for tensor in real if tensor.ndim]
            assert not beside, f"{func} of CUDA tensors with tensors {beside} on the CPU"
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        args, kwargs = tree_map_only(Tensor, self._pretended, (args, kwargs))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _copies(self, non_blocking: bool | None) -> None:
        if not non_blocking:
            self.waits.append("a copy is awaited")

    def _pretended(self, tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.from_tensor(tensor)
