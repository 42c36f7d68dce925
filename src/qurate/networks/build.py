"""From settings to a fresh network."""

import torch

from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.settings import Settings
from qurate.types import FloatArray


def build_network(
    item_features: FloatArray, settings: Settings, *, n_types: int, user_dim: int, n_components: int, behaviour: bool, seed: int
) -> CatalogueNetwork:
    """A fresh network over a catalogue; `seed` decides its first weights without touching the global generator."""
    s = settings.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CatalogueNetwork(
            torch.as_tensor(item_features), n_types=n_types, user_dim=user_dim, context_dim=2, n_components=n_components,
            dim=s.embedding_dim, hidden=s.hidden, encoder=s.encoder, form=s.form, id_embedding=s.id_embedding,
            id_dropout=s.id_dropout, behaviour=behaviour,
        )  # fmt: skip
