"""From settings to an untrained network."""

import torch
from torch import nn

from qurate.environments.observation_layout import TaskSpec
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.category_terms import CategoryTerms, category_columns
from qurate.networks.dense_network import DenseNetwork
from qurate.networks.distributional_values import DistributionalNetwork, QuantileNetwork, atoms_of
from qurate.networks.event_network import EventNetwork
from qurate.networks.implicit_quantiles import ImplicitNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.quantised_max import ITEMS as SEARCHED_ITEMS
from qurate.networks.slate_network import SlateNetwork
from qurate.networks.slates import SlateRules
from qurate.networks.table_network import TableNetwork
from qurate.networks.values import ValueNetwork
from qurate.settings import (
    CategoricalSettings,
    Extra,
    ImplicitSettings,
    MunchausenSettings,
    QuantileSettings,
    Settings,
    SlateSettings,
    TableSettings,
)
from qurate.types import FloatArray


def build_network(
    item_features: FloatArray,
    settings: Settings,
    *,
    n_types: int,
    user_dim: int,
    n_components: int,
    behaviour: bool,
    seed: int,
    candidate_features: int = 0,
) -> ValueNetwork:
    """A fresh network over a catalogue; `seed` decides its first weights without touching the global generator."""
    s, kind = settings.network, settings.algorithm
    if isinstance(kind, TableSettings):
        return TableNetwork(len(item_features) - 1, kind.table_states, kind.table_history)
    if isinstance(kind, SlateSettings):
        return _slate_network(item_features, settings, kind, n_types, user_dim, n_components, seed)
    linear = s.form == "linear_later"
    features = torch.as_tensor(item_features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CatalogueNetwork(
            features, n_types=n_types, user_dim=user_dim, context_dim=2,
            n_components=2 * n_components if linear else _heads_of(kind) or n_components,
            dim=s.embedding_dim, hidden=s.hidden, encoder=s.encoder, form="single" if linear else s.form, id_embedding=s.id_embedding,
            id_dropout=s.id_dropout, behaviour=behaviour and not linear, dueling=s.head == "dueling",
            candidate_features=candidate_features,
            attention=s.window if s.behaviour_head == "attention" and not linear else 0, sigma0=s.noisy_sigma if s.noisy else 0.0,
            state_value=isinstance(kind, ImplicitSettings), touched=not linear and touches_rows(settings, len(features) - 1),
        )  # fmt: skip
        for mix in (network.match, network.repeat):  # they begin at zero, and stay there
            mix.requires_grad_(s.history_terms)
        if linear:
            now = EventNetwork(network, _category_terms(features, n_types, user_dim, network.n_heads))
            return LinearLaterNetwork(now, features, n_types=n_types, user_dim=user_dim, context_dim=2)
        return _as_distribution(network, settings)


def _category_terms(features: torch.Tensor, n_types: int, user_dim: int, n_heads: int) -> CategoryTerms | None:
    columns = category_columns(features)
    if not bool(columns.any()):
        return None
    return CategoryTerms(features[:, columns], n_types=n_types, user_dim=user_dim, n_heads=n_heads)


def touches_rows(settings: Settings, items: int) -> bool:
    """Whether an update moves only the ids of items that its batch touches."""
    wanted = settings.learning.item_updates
    return wanted == "touched" or (wanted == "auto" and items > SEARCHED_ITEMS)


def _slate_network(
    item_features: FloatArray, settings: Settings, kind: SlateSettings, n_types: int, user_dim: int, n_components: int, seed: int
) -> SlateNetwork:
    """Over the catalogue and "nothing", whose features are zeros."""
    s = settings.network
    features = torch.nn.functional.pad(torch.as_tensor(item_features), (0, 0, 0, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CatalogueNetwork(
            features, n_types=n_types, user_dim=user_dim, context_dim=2, n_components=n_components, dim=s.embedding_dim, hidden=s.hidden,
            encoder=s.encoder, form="single", id_embedding=True, id_dropout=s.id_dropout, behaviour=True,
            sigma0=s.noisy_sigma if s.noisy else 0.0,
        )  # fmt: skip
    rules = SlateRules(kind.slate_size, kind.slate_optimiser, kind.nothing_value, kind.choice_model == "known")
    return SlateNetwork(network, rules, user_dim)


def build_task_network(spec: TaskSpec, settings: Settings, *, seed: int) -> ValueNetwork:
    """A fresh network of a task without a catalogue; a table where the algorithm is tabular and the state one integer."""
    s, kind = settings.network, settings.algorithm
    if isinstance(kind, TableSettings):
        return TableNetwork(spec.n_actions, spec.categories[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sigma0, dueling = s.noisy_sigma if s.noisy else 0.0, s.head == "dueling"
        network = DenseNetwork(spec, hidden=s.hidden, n_heads=_heads_of(kind) or 1, dueling=dueling, sigma0=sigma0, filters=s.filters)
        return _as_distribution(network, settings)


def _heads_of(kind: Extra) -> int:
    """Heads per action where they are not the reward components; else 0."""
    if isinstance(kind, CategoricalSettings):
        return kind.atoms
    if isinstance(kind, QuantileSettings):
        return 1 if kind.cosines else kind.quantiles
    return int(isinstance(kind, MunchausenSettings))


def _as_distribution(network: CatalogueNetwork | DenseNetwork, settings: Settings) -> ValueNetwork:
    """The network, its heads read as what the algorithm learns of the return's distribution."""
    kind = settings.algorithm
    if isinstance(kind, CategoricalSettings):
        return DistributionalNetwork(network, atoms_of(kind))
    if not isinstance(kind, QuantileSettings):
        return network
    if not kind.cosines:
        return QuantileNetwork(network, kind.quantiles)
    hidden = settings.network.hidden
    return ImplicitNetwork(network, hidden=hidden, cosines=kind.cosines, policy_quantiles=kind.policy_quantiles)


def inner_network(module: nn.Module) -> nn.Module:
    """The network below what reads its heads as a distribution."""
    if isinstance(module, DistributionalNetwork):
        return module.logits
    return module.inner if isinstance(module, QuantileNetwork | ImplicitNetwork) else module
