import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import api
from gfnet_dense.models import GFNet, GlobalFilter, HorNet, IsotropicGFNet
from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.features import draw_features, principal_components
from gfnet_dense.visualization.filters import draw_filters, kernel, magnitude, named_filters
from gfnet_dense.visualization.receptive_field import draw_receptive_fields, reach, receptive_field
from tests.commands import error_of, run, tool
from tests.published import official_isotropic_state_dict, official_state_dict
from tests.published_hornet import official_hornet_state_dict

DIMS, DEPTHS = (8, 16, 32, 64), (1, 1, 1, 1)  # of a small HorNet
SIZES = [(6, 8), (7, 5), (8, 7), (5, 6)]


def layer_of(size):
    torch.manual_seed(0)
    return GlobalFilter(3, size)


@pytest.mark.parametrize("size", SIZES)
def test_magnitude_equals_that_of_the_two_sided_spectrum(size):
    layer = layer_of(size)
    space = torch.fft.irfft2(layer.response(size, torch.float64), s=size)
    full = torch.fft.fft2(space).abs()
    gains = magnitude(layer)
    assert torch.allclose(torch.fft.ifftshift(gains, dim=(1, 2)), full)
    h, w = size
    assert torch.allclose(gains[:, h // 2, w // 2], full[:, 0, 0])


@pytest.mark.parametrize("size", SIZES)
def test_kernel_equals_the_response_to_a_single_pixel(size):
    h, w = size
    layer = layer_of(size).double()
    x = torch.zeros(1, h, w, 3, dtype=torch.float64)
    x[0, h // 2, w // 2] = 1
    assert torch.allclose(kernel(layer), layer(x)[0].permute(2, 0, 1))


def test_receptive_field_of_a_patch_embedding_is_its_patch():
    """Without filters the middle position sees all pixels of its patch with the same weight."""
    model = GFNet(dict(dims=(4,), depths=(1,)), img_size=32, out_indices=(0,)).eval()
    model.blocks[0] = torch.nn.ModuleList()
    model.norm0 = torch.nn.Identity()
    with torch.no_grad():
        model.patch_embed[0].proj.weight.fill_(0.1)
    (field,) = receptive_field(model, torch.randn(1, 3, 32, 32))
    expected = torch.zeros(32, 32)
    expected[16:20, 16:20] = 1  # position 4 of 8
    assert torch.allclose(field, expected)
    assert reach(field) == pytest.approx(8 / 1024)


def test_receptive_field_after_a_new_norm_covers_the_image():
    """The channels of a normalized map sum to 0 for any image."""
    torch.manual_seed(0)
    model = GFNet(dict(dims=(8,), depths=(2,), layer_scale_init_value=1.0), out_indices=(0,))
    (field,) = receptive_field(model.eval(), torch.randn(2, 3, 64, 64))
    assert field.isfinite().all() and field.max() == 1
    assert (field > 1e-5).float().mean() > 0.9  # filters see the whole image


def test_first_principal_component_equals_that_of_the_svd():
    torch.manual_seed(0)
    out = torch.randn(5, 1, 1) * torch.randn(1, 9, 7) + 0.1 * torch.randn(5, 9, 7)
    colors = principal_components(out)
    assert colors.shape == (9, 7, 3) and 0 <= colors.min() and colors.max() <= 1
    pixels = out.flatten(1).t() - out.flatten(1).mean(1)
    first = (pixels @ torch.linalg.svd(pixels, full_matrices=False).Vh[0]).numpy()
    low, high = np.quantile(first, [0.01, 0.99])
    expected = np.clip((first - low) / (high - low), 0, 1)
    ours = colors[..., 0].flatten().numpy()
    assert min(abs(ours - expected).max(), abs(ours - (1 - expected)).max()) < 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two official files, a checkpoint of a segmentor and a photo."""
    path = tmp_path_factory.mktemp("visualize")
    torch.manual_seed(0)
    torch.save({"model": official_state_dict((8, 16), (2, 1), 64)}, path / "hierarchical.pth")
    torch.save(official_isotropic_state_dict(8, 5, 64), path / "isotropic.pth")
    model = GFNet(dict(dims=(8, 16), depths=(2, 1)), img_size=(64, 96), out_indices=(0, 1))
    weights = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    torch.save({"state_dict": {**weights, "decode_head.x": torch.zeros(1)}}, path / "ours.pth")
    noise = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    Image.fromarray(noise).save(path / "photo.png")
    return path


@pytest.mark.parametrize(
    "name, num_filters, num_outputs, grid",
    [("hierarchical", 3, 2, (16, 16)), ("isotropic", 5, 4, (4, 4)), ("ours", 3, 2, (16, 24))],
)
def test_backbones_are_built_from_checkpoint_files_alone(
    name, num_filters, num_outputs, grid, folder
):
    backbone = api.load_backbone(folder / f"{name}.pth")
    assert backbone.grids[0] == grid and not backbone.training
    assert len(named_filters(backbone)) == num_filters
    with torch.no_grad():
        assert len(backbone(torch.zeros(1, 3, 64, 64))) == num_outputs
    stored = torch.load(folder / f"{name}.pth")
    stored = stored.get("model", stored.get("state_dict", stored))
    (key,) = (
        (k for k in stored if k.endswith("blocks.0.0.filter.complex_weight"))
        if (name != "isotropic")
        else ("blocks.0.filter.complex_weight",)
    )
    assert torch.equal(named_filters(backbone)[0][1].complex_weight, stored[key])


@pytest.mark.parametrize("mode", ["trigonometric", "bilinear", "bicubic", "spectral_pad"])
@pytest.mark.parametrize("kind", ["hierarchical", "isotropic", "hornet"])
def test_a_backbone_from_a_file_resizes_filters_as_it_is_told(kind, mode, folder):
    if kind == "hornet":
        built = HorNet(dict(dims=DIMS, depths=DEPTHS), 64, filter_resize=mode)
        stored = official_hornet_state_dict(DIMS, DEPTHS, img_size=64)
    elif kind == "isotropic":
        built = IsotropicGFNet(
            dict(dim=8, depth=5), 64, filter_resize=mode, out_indices=(0, 1, 3, 4)
        )
        stored = torch.load(folder / "isotropic.pth")
    else:
        arch = dict(dims=(8, 16), depths=(2, 1))
        built = GFNet(arch, 64, filter_resize=mode, out_indices=(0, 1))
        stored = torch.load(folder / "hierarchical.pth")["model"]
    torch.save(stored, folder / "stored.pth")
    backbone = api.load_backbone(folder / "stored.pth", filter_resize=mode)
    built.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 160, 96, generator=torch.Generator().manual_seed(0))
    default = api.load_backbone(folder / "stored.pth")
    with torch.no_grad():
        for ours, expected in zip(backbone(images), built.eval()(images), strict=True):
            assert torch.equal(ours, expected)
        same = torch.equal(backbone(images)[-1], default(images)[-1])
    assert same == (mode == "trigonometric")


def test_an_unknown_mode_is_refused_before_the_file_is_read():
    with pytest.raises(InputError, match="filter_resize is one of trigonometric, .*, got 'x'"):
        api.load_backbone("nothing.pth", filter_resize="x")


def test_a_published_hornet_is_drawn_as_its_authors_trained_it(tmp_path, monkeypatch):
    """A file of small size stands in for the download, which has no pinned digest."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    hub = tmp_path / "home" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(official_hornet_state_dict(DIMS, DEPTHS, img_size=64), hub / "hornet-tiny-gf.pth")

    def drawn(source, *options):
        command = tool("visualize", "erf", source, "--size", "96", "--out", "a.png", *options)
        result = run(command, tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()[-1], np.asarray(Image.open(tmp_path / "a.png"))

    line, published = drawn("hornet://tiny-gf")
    assert line == "written: a.png; filter_resize: bilinear"
    line, exact = drawn("hornet://tiny-gf", "--filter-resize", "trigonometric")
    assert line == "written: a.png; filter_resize: trigonometric"
    path = hub / "hornet-tiny-gf.pth"
    assert drawn(path)[0] == "written: a.png; filter_resize: trigonometric"
    rows = slice(published.shape[0] // 4, None)  # below the title, which names the file
    assert (published[rows] != exact[rows]).any()
    assert (published[rows] == drawn(path, "--filter-resize", "bilinear")[1][rows]).all()


def test_pictures_of_filters_receptive_fields_and_features_are_written(folder, tmp_path):
    backbone = api.load_backbone(folder / "hierarchical.pth")
    draw_filters(backbone, "filters", tmp_path / "filters.png", channels=3)
    fields = receptive_field(backbone, torch.randn(1, 3, 64, 96))
    draw_receptive_fields(fields, [4, 8], "fields", tmp_path / "erf.png")
    image = np.zeros((64, 96, 3), np.uint8)
    outputs = [[torch.randn(8, 16, 24), torch.randn(2, 8, 12)]]
    draw_features([image], outputs, [4, 8], "features", tmp_path / "features.png")
    for name in ("filters", "erf", "features"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 200


@pytest.mark.parametrize(
    "args",
    [
        ("filters", "isotropic.pth", "--channels", 2),
        ("erf", "ours.pth", "--size", "64x96"),
        ("features", "hierarchical.pth", "--images", "photo.png", "photo.png"),
    ],
)
def test_visualize_command_writes_each_kind_of_picture(args, folder):
    result = run(tool("visualize", *args), folder)
    assert result.returncode == 0, result.stderr
    assert f"written: {args[0]}.png" in result.stdout
    assert (folder / f"{args[0]}.png").exists()


@pytest.mark.parametrize(
    "args, message",
    [
        (("filters", "nothing.pth"), "nothing.pth does not exist"),
        (("filters", "photo.png"), "is not a PyTorch checkpoint"),
        (("filters", "ours.pth", "--out", "x.jpg"), "--out is a PNG file"),
        (("erf", "ours.pth", "--size", "8"), "32 pixels and more"),
        (("features", "ours.pth", "--images", "ours.pth"), "is no image"),
        (("erf", "ours.pth", "--filter-resize", "x"), "filter_resize is one of trigonometric, "),
    ],
)
def test_wrong_arguments_give_an_error_of_one_sentence(args, message, folder):
    assert message in error_of(run(tool("visualize", *args), folder))
