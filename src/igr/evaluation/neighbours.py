"""How well the classes of images are told by the nearest neighbours of their representations."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Numbers of neighbours that papers report.
NEIGHBOURS = (3, 5, 10)


def neighbour_errors(
    known: Tensor, known_labels: Tensor, points: Tensor, labels: Tensor, numbers: Sequence[int] = NEIGHBOURS
) -> Mapping[int, Tensor]:
    """Whether each point is given a wrong class by a vote of its nearest neighbours.

    Of classes with as many votes the one with the nearest neighbour wins.

    Arguments:
        known: Representations whose classes are known, with shape :math:`(M, D)`.
        known_labels: Their classes, with shape :math:`(M,)`.
        points: Representations that are classified, with shape :math:`(N, D)`.
        labels: Their true classes, with shape :math:`(N,)`.
        numbers: Numbers of neighbours, of which those above M are left out.

    Returns:
        For each number one where the class is wrong and zero elsewhere, float64 with shape :math:`(N,)`;
        nothing where there is but one class.
    """
    used = [number for number in numbers if number <= len(known)]
    if not used or bool((known_labels == known_labels[0]).all()):
        return {}
    # Importing it takes as long as importing torch: only where it is needed.
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=max(used), algorithm="brute").fit(known.double().numpy())
    nearest = torch.from_numpy(search.kneighbors(points.double().numpy(), return_distance=False))
    votes = known_labels[nearest]
    found = {}
    for number in used:
        near = votes[:, :number]
        count = (near.unsqueeze(-1) == near.unsqueeze(-2)).sum(-1)
        # argmax takes the first of equal ones, and neighbours come nearest first.
        chosen = near.gather(1, count.argmax(-1, keepdim=True)).squeeze(-1)
        found[number] = (chosen != labels).double()
    return found
