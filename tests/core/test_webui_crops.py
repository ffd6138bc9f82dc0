"""What an edit model is shown beside the crops of a picture."""

from types import SimpleNamespace

import pytest
import torch

from itermix.model.parts import WHOLE, Parts

VIEWS = [(slice(0, 4), slice(0, 4)), (slice(4, 8), slice(8, 12))]


@pytest.fixture
def crops(webui):
    return webui("crops")


@pytest.mark.parametrize("frames", [(), (1,)])
def test_references_of_the_pictures_size_are_cut_like_it_and_others_are_whole(crops, monkeypatch, frames):
    like = torch.rand(1, 16, *frames, 8, 12)
    other = torch.rand(1, 16, *frames, 6, 6)
    kept = SimpleNamespace(ref_latents=[like, other])
    monkeypatch.setattr(crops.host, "neo_arguments", lambda: kept)
    with crops.references_of_parts(Parts(torch.rand(2, 16, 8, 12), VIEWS)):
        cut, whole = kept.ref_latents
        for row in range(4):
            assert torch.equal(cut[row], like[0][..., VIEWS[row % 2][0], VIEWS[row % 2][1]])
            assert torch.equal(whole[row], other[0])
    assert kept.ref_latents[0] is like
    assert kept.ref_latents[1] is other


def test_after_a_call_that_fails_they_are_whole_again(crops, monkeypatch):
    kept = SimpleNamespace(ref_latents=[torch.rand(1, 16, 8, 12)])
    before = kept.ref_latents
    monkeypatch.setattr(crops.host, "neo_arguments", lambda: kept)
    with pytest.raises(MemoryError), crops.references_of_parts(Parts(torch.rand(1, 16, 8, 12), VIEWS)):
        raise MemoryError
    assert kept.ref_latents is before


def test_where_the_model_is_shown_all_or_the_webui_has_no_references_nothing_changes(crops, monkeypatch):
    kept = SimpleNamespace(ref_latents=[torch.rand(1, 16, 8, 12)])
    for found, parts in ((kept, WHOLE), (None, Parts(torch.rand(1, 16, 8, 12), VIEWS))):
        monkeypatch.setattr(crops.host, "neo_arguments", lambda found=found: found)
        with crops.references_of_parts(parts):
            assert kept.ref_latents[0].shape == (1, 16, 8, 12)


def test_only_forge_neo_has_references(crops, monkeypatch):
    host = crops.host
    monkeypatch.delitem(host.sys.modules, "backend.args", raising=False)
    assert host.neo_arguments() is None
    forge = SimpleNamespace(dynamic_args={"embedding_dir": "embeddings"})
    monkeypatch.setitem(host.sys.modules, "backend.args", forge)
    assert host.neo_arguments() is None
    neo = SimpleNamespace(dynamic_args=SimpleNamespace(ref_latents=[]))
    monkeypatch.setitem(host.sys.modules, "backend.args", neo)
    assert host.neo_arguments() is neo.dynamic_args
