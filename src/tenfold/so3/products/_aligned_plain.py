"""Convolutions in the frames of edges by plain operations of torch: for other devices and dtypes, and to compare."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.so3.products import _edge_frames as frames
from tenfold.so3.products._aligned_form import Form


def plain_messages(
    form: Form,
    features: Float[Tensor, "nodes component mul"],
    vectors: Float[Tensor, "edges 3"],
    weight: Float[Tensor, "some weights one"],
    source: Int[Tensor, " edges"] | None,
    target: Int[Tensor, " edges"] | None,
    nodes: int,
) -> Float[Tensor, "rows component mul"]:
    """What the kernel does, with dense matrices for each edge."""
    inner, outer = (frames.plain_frames(vectors, degrees, form.kept(1)) for degrees in (form.inner, form.outer))
    seen = frames.plain_to_frames(frames.gathered(features, source), inner)
    made = torch.einsum("ekic,eic->ekc", _dense(form, vectors, weight), seen)
    return frames.summed(frames.plain_from_frames(made, outer), target, nodes)


def plain_gradients(
    form: Form,
    coming: Float[Tensor, "rows component mul"],
    features: Float[Tensor, "nodes component mul"],
    vectors: Float[Tensor, "edges 3"],
    weight: Float[Tensor, "some weights one"],
    source: Int[Tensor, " edges"] | None,
    target: Int[Tensor, " edges"] | None,
    of_weight: bool,
    of_vectors: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the kernel of gradients does, with dense matrices for each edge."""
    inner, outer = (frames.plain_frames(vectors, degrees, form.kept(1)) for degrees in (form.inner, form.outer))
    x, g = frames.gathered(features, source), frames.gathered(coming, target)
    seen, behind = frames.plain_to_frames(x, inner), frames.plain_to_frames(g, outer)
    filters = _dense(form, vectors, weight)
    before = torch.einsum("ekic,ekc->eic", filters, behind)
    turned = frames.plain_from_frames(before, inner)
    to_weight, to_vectors = weight.new_zeros(0, *weight.shape[1:]), vectors.new_zeros(0, 3)
    if of_weight:
        k, i, slot, value = _columns(form, features)
        products = value[:, None] * behind[:, k] * seen[:, i]
        if weight.shape[2] == 1:
            products = products.sum(dim=-1, keepdim=True)
        to_slots = products.new_zeros(len(products), len(form.slots()), products.shape[2]).index_add(1, slot, products)
        blind = torch.tensor(form.blind()).to(to_slots)
        to_slots = torch.where(_zero(vectors), blind.T @ to_slots, to_slots)
        to_weight = torch.tensor(form.mixing()).to(to_slots).T @ to_slots
        if weight.shape[0] == 1:
            to_weight = to_weight.sum(dim=0, keepdim=True)
    if of_vectors:
        made = frames.plain_from_frames(torch.einsum("ekic,eic->ekc", filters, seen), outer)
        to_turn = frames.plain_torque(g, made, form.outer) - frames.plain_torque(turned, x, form.inner)
        to_vectors = frames.change_of(vectors, to_turn)
    to_features = frames.summed(turned, source, features.shape[0])
    return to_features.clone(), to_weight, to_vectors


def _dense(form: Form, vectors: Tensor, weight: Tensor) -> Tensor:
    """The filters as matrices: ``[edges, out, in, channels]``."""
    slots = torch.tensor(form.mixing()).to(weight) @ weight
    slots = torch.where(_zero(vectors), torch.tensor(form.blind()).to(slots) @ slots, slots)
    k, i, slot, value = _columns(form, weight)
    sizes = [sum(2 * min(n, form.kept(1)) + 1 for n in degrees) for degrees in (form.outer, form.inner)]
    found = slots.new_zeros(len(slots), sizes[0], sizes[1], slots.shape[2])
    # No two slots belong to one pair of components.
    found[:, k, i] = value[:, None] * slots[:, slot]
    return found


def _zero(vectors: Tensor) -> Tensor:
    return (vectors == 0).all(dim=-1)[:, None, None]


def _columns(form: Form, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    terms = form.terms(1)
    k, i, slot = (torch.tensor([term[n] for term in terms], device=like.device) for n in range(3))
    return k, i, slot, like.new_tensor([term[3] for term in terms])
