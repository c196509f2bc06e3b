"""torch's optimizers without torch's compiler.

`torch.optim` marks its methods as not to be compiled, and loads the compiler at their first call to do so: two seconds of a core at the
start of every process, whether it compiles or not. No optimizer is compiled here, so these take the methods without the mark.
"""

from __future__ import annotations

import inspect

import torch
from torch.optim import AdamW as _AdamW
from torch.optim import Optimizer


class EagerOptimizer(Optimizer):
    """An optimizer that loads no compiler."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class AdamW(EagerOptimizer, _AdamW):
    """`torch.optim.AdamW`, not differentiable."""

    step = torch.no_grad()(inspect.unwrap(_AdamW.step))
