"""qurate: recommendations that pay off over time, learned by deep Q-learning.

The road: `read_events` -> `build_dataset` -> `train` -> `evaluate` -> `Model.recommend`. Names are imported when first
used, so that `import qurate` costs nothing.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from qurate.client import Client as Client
    from qurate.decision import Decision as Decision
    from qurate.environments.registry import make_engine as make_engine
    from qurate.environments.registry import make_env as make_env
    from qurate.errors import MachineError as MachineError
    from qurate.errors import QurateError as QurateError
    from qurate.errors import UserError as UserError
    from qurate.evaluation.report import Report as Report
    from qurate.events.readers import read_events as read_events
    from qurate.events.schema import EventLog as EventLog
    from qurate.experiments.compare import compare as compare
    from qurate.experiments.evaluate import evaluate as evaluate
    from qurate.experiments.generations import evaluate_many as evaluate_many
    from qurate.mdp.dataset import build_dataset as build_dataset
    from qurate.mdp.storage import Dataset as Dataset
    from qurate.models.model import Model as Model
    from qurate.models.model import load as load
    from qurate.training.train import train as train

_PLACES = {
    "read_events": "events.readers", "build_dataset": "mdp.dataset", "train": "training.train", "load": "models.model",
    "evaluate": "experiments.evaluate", "evaluate_many": "experiments.generations", "compare": "experiments.compare",
    "make_env": "environments.registry", "make_engine": "environments.registry",
    "EventLog": "events.schema", "Dataset": "mdp.storage", "Model": "models.model", "Decision": "decision", "Report": "evaluation.report",
    "Client": "client", "QurateError": "errors", "UserError": "errors", "MachineError": "errors",
}  # fmt: skip
"""Public name -> its module, in the order of docs/api.md."""

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'qurate' has no attribute {name!r}")
    return getattr(import_module(f"qurate.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _AfterGymnasium(MetaPathFinder):
    """Registers the environments when Gymnasium is imported after qurate, which does not import it: that would take 0.2 s."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The spec of `gymnasium` as any other finder gives it, with the registration after its execution."""
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                import_module("qurate.environments.registry").register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "gymnasium" in sys.modules:
    import_module("qurate.environments.registry").register()
else:
    sys.meta_path.insert(0, _AfterGymnasium())
