"""The networks have the stated layers and the stated start, for images of every size that they take."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from igr.errors import UserError
from igr.models.networks import (
    MIXTURE_NETWORKS,
    NETWORKS,
    Autocast,
    Networks,
    Sizes,
    decoded_categories,
    resized,
)

SMALL, MIDDLE, SQUARE, LARGE = (1, 8, 8), (1, 28, 28), (1, 32, 32), (3, 64, 64)
OUT, FEATURES, PER_PIXEL = 30, 40, 2


def sizes(shape: tuple[int, int, int]) -> Sizes:
    return Sizes(shape, num_outputs=OUT, num_features=FEATURES, parameters_per_pixel=PER_PIXEL)


def build(name: str, shape: tuple[int, int, int] = SMALL, seed: int = 0) -> Networks:
    return NETWORKS[name].build(sizes(shape), torch.Generator().manual_seed(seed))


LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def described(module: nn.Module) -> list[tuple[object, ...]]:
    """The layers in their order: sizes of linear ones, channels, kernel and stride of others, "relu"."""
    found: list[tuple[object, ...]] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found.append((layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            kind = "conv" if isinstance(layer, nn.Conv2d) else "up"
            assert len({*layer.kernel_size}) == len({*layer.stride}) == 1
            found.append((kind, layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0]))
        elif isinstance(layer, nn.ReLU):
            found.append(("relu",))
    return found


R = ("relu",)
EXPECTED = {
    ("dense", SMALL): ([(64, OUT)], [(FEATURES, 128)]),
    ("dense", LARGE): ([(12288, OUT)], [(FEATURES, 2 * 12288)]),
    ("dense_nonlinear", MIDDLE): (
        [(784, 512), R, (512, 256), R, (256, OUT)],
        [(FEATURES, 256), R, (256, 512), R, (512, 2 * 784)],
    ),
    ("dense_relax", MIDDLE): (
        [(784, OUT), R, (OUT, OUT), R, (OUT, OUT)],
        [(FEATURES, 200), R, (200, 200), R, (200, 2 * 784)],
    ),
    ("conv", MIDDLE): (
        [("conv", 1, 32, 3, 2), R, ("conv", 32, 64, 3, 2), R, (6 * 6 * 64, OUT)],
        [(FEATURES, 7 * 7 * 32), R, ("up", 32, 64, 3, 2), R, ("up", 64, 32, 3, 2), R, ("up", 32, 2, 3, 1)],
    ),
    ("conv", SMALL): (
        [("conv", 1, 32, 3, 2), R, ("conv", 32, 64, 3, 2), R, (64, OUT)],
        [(FEATURES, 2 * 2 * 32), R, ("up", 32, 64, 3, 2), R, ("up", 64, 32, 3, 2), R, ("up", 32, 2, 3, 1)],
    ),
    ("conv", LARGE): (
        [("conv", 3, 32, 3, 2), R, ("conv", 32, 64, 3, 2), R, (15 * 15 * 64, OUT)],
        [(FEATURES, 16 * 16 * 32), R, ("up", 32, 64, 3, 2), R, ("up", 64, 32, 3, 2), R, ("up", 32, 6, 3, 1)],
    ),
    ("conv_jointvae", SQUARE): (
        [
            *(("conv", 1, 32, 4, 2), R, ("conv", 32, 64, 4, 2), R, ("conv", 64, 64, 4, 2), R),
            *((4 * 4 * 64, 256), R, (256, OUT)),
        ],
        [
            *((FEATURES, 256), R, (256, 4 * 4 * 64), R),
            *(("up", 64, 32, 4, 2), R, ("up", 32, 32, 4, 2), R, ("up", 32, 2, 4, 2)),
        ],
    ),
    ("conv_jointvae", LARGE): (
        [
            *(("conv", 3, 32, 4, 2), R, ("conv", 32, 64, 4, 2), R, ("conv", 64, 64, 4, 2), R),
            *(("conv", 64, 64, 4, 2), R, (4 * 4 * 64, 256), R, (256, OUT)),
        ],
        [
            *((FEATURES, 256), R, (256, 4 * 4 * 64), R, ("up", 64, 64, 4, 2), R),
            *(("up", 64, 32, 4, 2), R, ("up", 32, 32, 4, 2), R, ("up", 32, 6, 4, 2)),
        ],
    ),
}
# Counted by hand: weights and biases of the layers above.
COUNTS = {
    ("dense", SMALL): (64 * 30 + 30, 40 * 128 + 128),
    ("dense_relax", MIDDLE): (784 * 30 + 30 + 2 * (900 + 30), 8000 + 200 + 40000 + 200 + 200 * 1568 + 1568),
    ("conv", MIDDLE): (
        9 * 32 + 32 + 9 * 32 * 64 + 64 + 2304 * 30 + 30,
        40 * 1568 + 1568 + 9 * 32 * 64 + 64 + 9 * 64 * 32 + 32 + 9 * 32 * 2 + 2,
    ),
    ("conv_jointvae", SQUARE): (
        16 * 32 + 32 + 16 * 32 * 64 + 64 + 16 * 64 * 64 + 64 + 1024 * 256 + 256 + 256 * 30 + 30,
        40 * 256 + 256 + 256 * 1024 + 1024 + 16 * 64 * 32 + 32 + 16 * 32 * 32 + 32 + 16 * 32 * 2 + 2,
    ),
    ("conv_jointvae", LARGE): (
        16 * 96 + 32 + 16 * 32 * 64 + 64 + 2 * (16 * 64 * 64 + 64) + 1024 * 256 + 256 + 256 * 30 + 30,
        *(
            40 * 256 + 256 + 256 * 1024 + 1024 + 16 * 64 * 64 + 64 + 16 * 64 * 32 + 32
            + 16 * 32 * 32 + 32 + 16 * 32 * 6 + 6,
        ),
    ),
}  # fmt: skip


def test_every_network_is_looked_at():
    assert {name for name, _ in EXPECTED} == set(NETWORKS)


@pytest.mark.parametrize(("name", "shape"), EXPECTED)
def test_layers_are_those_of_the_papers(name, shape):
    for module, expected in zip(build(name, shape), EXPECTED[name, shape], strict=True):
        assert described(module) == expected


@pytest.mark.parametrize(("name", "shape"), COUNTS)
def test_there_are_as_many_parameters_as_counted_by_hand(name, shape):
    found = [sum(p.numel() for p in module.parameters()) for module in build(name, shape)]
    assert tuple(found) == COUNTS[name, shape]


SHAPES = [
    *((name, shape) for name in ("dense", "dense_nonlinear", "dense_relax") for shape in (SMALL, LARGE)),
    *(("conv", shape) for shape in (SMALL, MIDDLE, SQUARE, LARGE, (1, 12, 20))),
    *(("conv_jointvae", shape) for shape in (SQUARE, LARGE)),
]


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_shapes_in_and_out_with_any_number_of_batch_dimensions(name, shape):
    encoder, decoder = build(name, shape)
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    points = torch.rand(2, 3, FEATURES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs, decoded = encoder(images), decoder(points)
        assert outputs.shape == (2, 3, OUT)
        assert decoded.shape == (2, 3, PER_PIXEL, *shape)
        # An image is handled alone, whatever stands beside it.
        torch.testing.assert_close(outputs[1, 2], encoder(images[1, 2]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decoded[1, 2], decoder(points[1, 2]), rtol=1e-4, atol=1e-5)
    # No nonlinearity at the end.
    assert outputs.min() < 0 < outputs.max()
    assert decoded.min() < 0 < decoded.max()


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_categories_are_decoded_as_their_one_hot_vectors(name, shape):
    """With any number of batch dimensions, and gradients of the weights."""
    _, decoder = build(name, shape)
    categories = torch.randint(4, (2, 3, FEATURES // 4), generator=torch.Generator().manual_seed(2))
    vectors = torch.nn.functional.one_hot(categories, 4).float().flatten(-2)
    parameters = list(decoder.parameters())
    found, expected = decoded_categories(decoder, categories, 4), decoder(vectors)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        decoded_categories(decoder, categories[1, 2], 4), expected[1, 2], rtol=1e-4, atol=1e-5
    )
    gradients = (torch.autograd.grad(made.square().mean(), parameters) for made in (found, expected))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("dense_nonlinear", SMALL), ("conv", SMALL)])
def test_autocast_computes_in_bfloat16_in_training_alone(name, shape):
    """The numbers are those of bfloat16, what comes in, goes out and is trained is float32."""
    encoder, _ = build(name, shape)
    network = Autocast(encoder)
    inside = []
    last = [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_hook(lambda _module, _inputs, output: inside.append(output.dtype))
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    trained, plain = network(images), encoder(images)
    assert inside == [torch.bfloat16, torch.float32]
    assert trained.dtype == torch.float32
    assert 0 < (trained - plain).abs().max() < 0.05
    trained.square().sum().backward()
    assert {p.grad.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(network.eval()(images), plain)


def test_those_of_relax_see_numbers_from_minus_one_to_one():
    encoder, decoder = build("dense_relax")
    generator = torch.Generator().manual_seed(0)
    for module, given in ((encoder, torch.rand(4, *SMALL, generator=generator)), (decoder, None)):
        x = torch.rand(4, FEATURES, generator=generator) if given is None else given
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        by_hand = 2 * x.flatten(1) - 1
        for number, layer in enumerate(linear):
            by_hand = by_hand @ layer.weight.T + layer.bias
            by_hand = by_hand.clamp_min(0) if number < len(linear) - 1 else by_hand
        torch.testing.assert_close(module(x).flatten(1), by_hand, rtol=1e-4, atol=1e-5)


def test_the_decoders_of_convolutions_put_parameters_of_a_pixel_before_its_channels():
    """What a likelihood takes as the first number of a pixel are the first channels of the last layer."""
    for name, shape in (("conv", LARGE), ("conv_jointvae", LARGE)):
        _, decoder = build(name, shape)
        last = [layer for layer in decoder.modules() if isinstance(layer, LAYERS)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.arange(6.0))
        decoded = decoder(torch.rand(1, FEATURES))[0]
        assert decoded.amax((-1, -2)).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(("name", "shape"), EXPECTED)
def test_weights_start_as_stated_and_biases_at_zero(name, shape):
    networks = build(name, shape)
    for part, module in networks._asdict().items():
        for layer in module.modules():
            if not isinstance(layer, LAYERS):
                continue
            assert not layer.bias.detach().any()
            weights = layer.weight.detach().double()
            receptive = 1 if isinstance(layer, nn.Linear) else math.prod(layer.kernel_size)
            fan_in = receptive * (layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
            fan_out = receptive * (layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
            if name == "conv" and part == "encoder" and isinstance(layer, nn.Conv2d):
                # He's normal law: its second and fourth moments.
                scaled = weights / math.sqrt(2 / fan_in)
                moments = ((scaled.square(), 1.0), (scaled**4, 3.0))
            else:
                # Glorot's uniform one.
                scaled = weights / math.sqrt(6 / (fan_in + fan_out))
                assert scaled.abs().max() <= 1 + 1e-6
                moments = ((scaled.square(), 1 / 3), (scaled**4, 1 / 5))
            for values, expected in (*moments, (scaled, 0.0)):
                error = values.std() / values.numel() ** 0.5
                assert abs(values.mean() - expected) < 5 * error


@pytest.mark.parametrize(("name", "shape"), [("dense", SMALL), ("conv", SMALL), ("conv_jointvae", SQUARE)])
def test_the_start_depends_on_the_generator_alone(name, shape):
    def weights(seed: int) -> list[Tensor]:
        return [
            parameter
            for module in build(name, shape, seed)
            for key, parameter in module.named_parameters()
            if key.endswith("weight")
        ]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, first, weights(4)))
    assert not any(map(torch.equal, first, weights(5)))


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 30, 28), (3, 28, 30), (1, 7, 8), (1, 6, 6)])
def test_conv_refuses_images_that_it_cannot_give_back(shape):
    with pytest.raises(UserError) as error:
        NETWORKS["conv"].image_shape(shape)
    assert (
        f"multiples of 4, from 8 on, for a network with convolutions; got {shape[1]} x {shape[2]}; use"
        in str(error.value)
    )


def test_shapes_of_images_as_networks_take_them():
    for name in ("dense", "dense_nonlinear", "dense_relax"):
        assert NETWORKS[name].image_shape((1, 5, 7)) == (1, 5, 7)
    for shape in (SMALL, MIDDLE, LARGE, (1, 12, 20)):
        assert NETWORKS["conv"].image_shape(shape) == shape
    found = {shape: NETWORKS["conv_jointvae"].image_shape(shape) for shape in (SMALL, MIDDLE, SQUARE, LARGE)}
    assert found == {SMALL: SQUARE, MIDDLE: SQUARE, SQUARE: SQUARE, LARGE: LARGE}
    assert NETWORKS["conv_jointvae"].image_shape((3, 105, 40)) == LARGE


def drawings(count: int, channels: int, height: int, width: int) -> Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (count, channels, height, width), dtype=np.uint8))


@pytest.mark.parametrize(("height", "width", "side"), [(28, 28, 32), (8, 8, 32), (64, 64, 32), (40, 20, 64)])
def test_resizing_is_pillows(height, width, side):
    images = drawings(3, 2, height, width)
    found = resized(images, side)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 2, side, side))
    for image, mine in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        picture = Image.fromarray(image.numpy()).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(picture, np.int64) - mine.numpy().astype(np.int64)).max() <= 1


def test_resized_images_keep_their_intensities():
    for level in (0, 1, 127, 254, 255):
        flat = torch.full((2, 1, 28, 28), level, dtype=torch.uint8)
        assert (resized(flat, 32) == level).all()
    checks = 255 * (torch.arange(28)[:, None] + torch.arange(28)).remainder(2).to(torch.uint8)
    found = resized(checks[None, None], 32)
    assert found.min() >= 0
    assert abs(found.double().mean() - 127.5) < 2


def test_images_of_the_right_size_are_left_where_they_are():
    images = drawings(3, 1, 32, 32)
    assert resized(images, 32) is images


def test_blocks_of_images_are_put_together_in_order():
    images = drawings(2005, 1, 4, 4)
    found = resized(images, 8)
    assert len(found) == 2005
    for place in (0, 1999, 2000, 2004):
        assert torch.equal(found[place : place + 1], resized(images[place : place + 1], 8))
    assert resized(images[:0], 8).shape == (0, 1, 8, 8)


MIXTURE_EXPECTED = {
    "dlgmm_dense": (
        [(784, 200), R, (200, 200), R, (200, 200), R],
        [(FEATURES, 200), R, (200, 200), R, (200, 2 * 784)],
    ),
    "dlgmm_conv": (
        [("conv", 1, 32, 4, 2), R, ("conv", 32, 64, 4, 2), R, ("conv", 64, 64, 4, 2), R],
        [(FEATURES, 7 * 7 * 32), R, ("up", 32, 64, 3, 2), R, ("up", 64, 32, 3, 2), R, ("up", 32, 2, 3, 1)],
    ),
}


@pytest.mark.parametrize("shape", [SMALL, MIDDLE, LARGE])
@pytest.mark.parametrize("name", MIXTURE_NETWORKS)
def test_networks_of_mixtures(name, shape):
    source = torch.Generator().manual_seed(0)
    made = MIXTURE_NETWORKS[name].build(FEATURES, (PER_PIXEL, *shape), source)
    trunk, num_hidden, decoder, widest = made
    if shape == MIDDLE:
        assert (described(trunk), described(decoder)) == MIXTURE_EXPECTED[name]
    for batch in ((), (5,), (2, 5)):
        assert trunk(torch.zeros(*batch, *shape)).shape == (*batch, num_hidden)
        assert decoder(torch.zeros(*batch, FEATURES)).shape == (*batch, PER_PIXEL, *shape)
    largest = [0]

    def see(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        largest[0] = max(largest[0], output.numel())

    for layer in decoder.modules():
        layer.register_forward_hook(see)
    decoder(torch.zeros(FEATURES))
    assert widest == largest[0]


def test_the_network_of_mixtures_with_convolutions_refuses_images_that_it_cannot_give_back():
    with pytest.raises(UserError, match="multiples of 4"):
        MIXTURE_NETWORKS["dlgmm_conv"].check((1, 30, 28))
