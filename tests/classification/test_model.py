"""Tests the classifier's losses against torch and its predictions against torchvision."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from resdet.backbones import create
from resdet.classification.model import Classifier
from resdet.classification.training import ClassifierStep
from resdet.errors import ConfigError, DataError
from resdet.fast import accelerate
from resdet.images.normalize import Normalize
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD


def classifier(label_smoothing: float = 0.0) -> Classifier:
    torch.manual_seed(0)
    net = create("cifar_resnet20", 6)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    return Classifier(net, list("abcdef"), normalize, size=32, short=32, label_smoothing=label_smoothing).eval()


def batch(count: int = 5, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_matches_torch_in_train_and_eval_mode(training, smoothing):
    model = classifier(smoothing).train(training)
    labels = torch.tensor([0, 5, 2, 2, 1])
    losses = model.losses(batch(), labels)
    with torch.no_grad():
        expected = F.cross_entropy(model(batch()), labels, label_smoothing=smoothing)
    assert list(losses) == ["cross_entropy"] and losses["cross_entropy"].shape == ()
    assert torch.allclose(losses["cross_entropy"], expected, rtol=1e-6)
    losses["cross_entropy"].backward()
    assert model.backbone.conv1.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_unlabeled_images_are_ignored(smoothing):
    model = classifier(smoothing)
    labels = torch.tensor([0, -1, 2, -1, 1])
    loss = model.losses(batch(), labels)["cross_entropy"]
    known = labels >= 0
    expected = F.cross_entropy(model(batch())[known], labels[known], label_smoothing=smoothing)
    assert torch.allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_training_error_is_that_of_the_labeled_images(mixed):
    model = classifier()
    with torch.no_grad():
        best = model(batch()).argmax(1)
    labels = torch.stack([best[0], (best[1] + 1) % 6, best[2], torch.tensor(-1), torch.tensor(-1)])
    targets = (labels[:, None] == torch.arange(6)).float() if mixed else labels
    _, measures = ClassifierStep(model)(batch(), targets)
    torch.testing.assert_close(measures["error"], torch.tensor(1 / 3))


def test_a_batch_without_labels_has_zero_loss():
    model = classifier()
    loss = model.losses(batch(), torch.full((5,), -1))["cross_entropy"]
    loss.backward()
    assert loss == 0 and not any(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_soft_targets(smoothing):
    """Compares the loss with -sum p log q, averaged over the batch."""
    model = classifier(smoothing)
    targets = torch.rand(5, 6, generator=torch.Generator().manual_seed(2)).softmax(1)
    smoothed = targets * (1 - smoothing) + smoothing / 6
    expected = -(smoothed * model(batch()).log_softmax(1)).sum(1).mean()
    assert torch.allclose(model.losses(batch(), targets)["cross_entropy"], expected, rtol=1e-5)


def test_one_hot_targets_have_the_loss_of_labels():
    model, labels = classifier(0.1), torch.tensor([0, 5, 2, 2, 1])
    soft = model.losses(batch(), F.one_hot(labels, 6).float())["cross_entropy"]
    assert torch.allclose(soft, model.losses(batch(), labels)["cross_entropy"], rtol=1e-6)


@pytest.mark.parametrize("label", [6, -2])
def test_labels_outside_the_classes_are_refused(label):
    labels = torch.tensor([0, 5, label, 2, -1])
    with pytest.raises(DataError, match=f"A label is {label}, but the model has 6 classes: give labels from 0 to 5"):
        classifier().losses(batch(), labels)


def test_losses_compile_as_one_graph():
    model, labels = classifier(), torch.tensor([0, 5, 1, 2, -1])
    compiled = torch.compile(model.losses, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(batch(), labels), model.losses(batch(), labels))


def test_predictions_match_torchvision():
    """Uses an image whose short side needs no resizing, so that both libraries crop the same pixels."""
    torchvision = pytest.importorskip("torchvision")
    from resdet import weights

    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=9).eval()
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    model = Classifier(create("resnet18", 9), list("abcdefghi"), normalize, size=96, short=128)
    weights.load(model, theirs.state_dict())
    (picture,) = pictures((128, 160))
    (result,) = model.predict([picture], top=3)
    crop = torchvision.transforms.functional.center_crop(torch.from_numpy(picture).permute(2, 0, 1), [96, 96])
    normalized = torchvision.transforms.functional.normalize(crop / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        scores, labels = theirs(normalized[None]).softmax(1)[0].topk(3)
    assert result.labels.tolist() == labels.tolist()
    assert np.allclose(result.scores, scores, rtol=1e-4)
    assert result.names == ["abcdefghi"[label] for label in labels]


def test_paths_and_arrays_give_the_same_prediction(tmp_path):
    from PIL import Image

    model = classifier()
    (picture,) = pictures((40, 57))
    Image.fromarray(picture).save(tmp_path / "a.png")
    by_path, by_text, by_array = model.predict([tmp_path / "a.png", str(tmp_path / "a.png"), picture], top=6)
    for result in (by_path, by_text):
        assert result.names == by_array.names and np.allclose(result.scores, by_array.scores, rtol=1e-5)
    assert by_array.scores.sum() == pytest.approx(1, abs=1e-5) and sorted(by_array.labels) == list(range(6))
    assert (np.diff(by_array.scores) <= 0).all()


def test_predict_accepts_any_size_and_keeps_mode_and_buffers():
    model = classifier().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    results = model.predict(pictures((32, 32), (300, 40), (17, 90), (1, 1)), top=100)
    assert model.training and [len(result.labels) for result in results] == [6] * 4
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_batched_predictions_match_single_ones():
    model = classifier()
    images = pictures(*[(32, 32)] * 70)
    together = model.predict(images)
    for index in (0, 63, 64, 69):
        (alone,) = model.predict([images[index]])
        assert np.allclose(alone.scores, together[index].scores, rtol=1e-4)


def test_no_images_give_no_results():
    assert classifier().predict([]) == []


def test_errors_name_the_damaged_image(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(DataError, match="bad.jpg"):
        classifier().predict([tmp_path / "bad.jpg"])


def test_normalization_matches_torchvision():
    functional = pytest.importorskip("torchvision").transforms.functional
    expected = functional.normalize(batch() / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.allclose(Normalize(IMAGENET_MEAN, IMAGENET_STD)(batch()), expected, atol=1e-5)


def test_loading_keeps_the_shape_of_the_mean():
    """Checks that Normalize takes over the per-pixel mean of a checkpoint as a copy."""
    given, fresh = Normalize(torch.rand(3, 4, 5), [1.0, 2.0, 3.0]), Normalize()
    fresh.load_state_dict(given.state_dict())
    assert torch.equal(fresh.mean, given.mean) and torch.equal(fresh.std, given.std)
    assert fresh.mean.data_ptr() != given.mean.data_ptr()


def test_a_per_pixel_mean_is_averaged_for_other_sizes():
    """Checks the per-pixel mean of sections 3.4 and 4.2 of the paper at the trained size and at another one."""
    mean = batch(1)[0].float()
    normalize = Normalize(mean, (2.0, 4.0, 8.0))
    scale = torch.tensor([2.0, 4.0, 8.0])[:, None, None]
    assert torch.equal(normalize(batch()), (batch().float() - mean) / scale)
    assert torch.allclose(normalize(batch(2, 48)), (batch(2, 48).float() - mean.mean((1, 2), keepdim=True)) / scale)


def test_the_accelerated_model_matches_the_plain_one():
    model = classifier()
    with torch.no_grad():
        expected = model(batch())
        exact = accelerate(classifier(), dtype=torch.float32, compile=False)(batch())
        rough = accelerate(classifier(), dtype=torch.bfloat16, compile=False)(batch())
    assert torch.allclose(exact, expected, rtol=1e-4, atol=1e-5)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("size", [0, -1])
def test_batches_without_images_are_refused(size):
    with pytest.raises(ConfigError, match=f"batch is {size}: give 1 image or more"):
        classifier().predict(pictures((40, 32)), batch=size)
