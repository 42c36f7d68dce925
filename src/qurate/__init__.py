"""qurate: recommendations that pay off over time, learned by deep Q-learning.

The road: `read_events` -> `build_dataset` -> `train` -> `evaluate` -> `Model.recommend`. Names are imported when first
used, so that `import qurate` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qurate.client import Client as Client
    from qurate.environments.registry import make_engine as make_engine
    from qurate.environments.registry import make_env as make_env
    from qurate.errors import MachineError as MachineError
    from qurate.errors import QurateError as QurateError
    from qurate.errors import UserError as UserError
    from qurate.evaluation.report import Report as Report
    from qurate.events.readers import read_events as read_events
    from qurate.experiments.compare import compare as compare
    from qurate.experiments.compare import evaluate as evaluate
    from qurate.mdp.dataset import build_dataset as build_dataset
    from qurate.mdp.storage import Dataset as Dataset
    from qurate.models.directory import load as load
    from qurate.models.model import Model as Model
    from qurate.training.train import train as train

_PLACES = {
    "train": "training.train", "Client": "client", "MachineError": "errors", "QurateError": "errors", "UserError": "errors",
    "Report": "evaluation.report", "read_events": "events.readers", "compare": "experiments.compare", "evaluate": "experiments.compare",
    "build_dataset": "mdp.dataset", "Dataset": "mdp.storage", "Model": "models.model", "load": "models.directory",
    "make_engine": "environments.registry", "make_env": "environments.registry",
}  # fmt: skip

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'qurate' has no attribute {name!r}")
    return getattr(import_module(f"qurate.{_PLACES[name]}"), name)


def _register_environments() -> None:
    """`import qurate` makes gymnasium.make("qurate/Shop-v0") work where Gymnasium was imported before."""
    import sys

    if "gymnasium" in sys.modules:
        import_module("qurate.environments.registry").register()


_register_environments()
