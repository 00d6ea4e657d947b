"""Votes of nearest neighbours, against scikit-learn's and by hand."""

from __future__ import annotations

import torch
from sklearn.neighbors import KNeighborsClassifier

from cases import generator
from igr.evaluation.neighbours import neighbour_errors


def test_one_dimension_by_hand():
    known = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    labels = torch.tensor([0, 1, 1, 2])
    points = torch.tensor([[0.1], [9.0], [1.9]])
    found = neighbour_errors(known, labels, points, torch.tensor([0, 2, 1]), numbers=(1, 3, 9))
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    # Two of the three nearest to the first two points are of class 1.
    assert found[3].tolist() == [1.0, 1.0, 0.0]
    # There are not nine.
    assert set(found) == {1, 3}


def test_of_classes_with_as_many_votes_the_nearest_wins():
    known, labels = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([7, 3, 3, 7])
    found = neighbour_errors(known, labels, torch.zeros(1, 1), torch.tensor([7]), numbers=(2, 3, 4))
    assert [wrong.item() for wrong in found.values()] == [0.0, 1.0, 0.0]


def test_without_ties_it_is_scikit_learns():
    known, points = (torch.randn(count, 3, generator=generator("points")) for count in (300, 100))
    labels = (known.sum(-1) > 0).long()
    truth = (points.sum(-1) > 0).long()
    for number in (1, 3, 5):
        theirs = KNeighborsClassifier(number).fit(known.numpy(), labels.numpy()).predict(points.numpy())
        found = neighbour_errors(known, labels, points, truth, numbers=(number,))[number]
        assert torch.equal(found, (torch.from_numpy(theirs) != truth).double())


def test_one_class_alone_is_not_told():
    points = torch.randn(5, 2, generator=generator("alone"))
    labels = torch.zeros(5, dtype=torch.int64)
    assert neighbour_errors(points, labels, points, labels) == {}
