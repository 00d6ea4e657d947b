"""The arithmetic under the laws: plain functions of tensors, with no notion of a distribution.

Every function here computes in the dtype of its arguments, which the distributions choose
(float32 for half-precision parameters), and works under ``torch.compile``, ``torch.func.vmap``
and ``torch.export``, except for the inverse of the exact law, which iterates until it has converged.
"""
