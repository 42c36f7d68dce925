"""A model and an environment number items, types and user features each in their own way: this maps one to the other."""

import numpy as np
from numpy.typing import NDArray

from qurate.events.features import Spec, feature_names
from qurate.events.vocabulary import Vocabulary
from qurate.mdp.states import derive_context
from qurate.types import Engine, EventRows, Feedback, FloatArray, Observation, Scorer, State


class Translation:
    """From an engine's indices to a model's, by the text ids and names both know; unknown ones become 0.

    Args:
        engine: whose observations come in.
        vocabulary: of the model.
        user_spec: how the model encodes user features; features the engine does not have stay 0.
        window: newest history rows that the model sees; None = all that the engine gives.
    """

    def __init__(self, engine: Engine, vocabulary: Vocabulary, user_spec: Spec, window: int | None = None) -> None:
        self.window = window
        self.items = np.concatenate([[0], vocabulary.item_index(engine.item_ids)]).astype(np.int64)
        self.types = np.concatenate([[0], vocabulary.type_index(engine.type_names)]).astype(np.int64)
        self.same_items = bool((self.items == np.arange(len(self.items))).all())
        column = {name: i for i, name in enumerate(engine.user_feature_names)}
        names = feature_names(user_spec) if user_spec else list(engine.user_feature_names)
        self.user_columns = np.array([column.get(name, -1) for name in names], np.int64)
        scale = {c["name"]: (c["mean"], c["std"]) for c in user_spec.get("columns", []) if c["kind"] == "numeric"}
        self.user_mean = np.array([scale.get(name, (0.0, 1.0))[0] for name in names], np.float32)
        self.user_std = np.array([scale.get(name, (0.0, 1.0))[1] for name in names], np.float32)

    def observation(self, observation: Observation) -> Observation:
        """The same observation in the model's indices."""
        state, candidates = observation.state, observation.actions.candidates
        if self.window is not None and self.window < state.history_items.shape[1]:
            cut = np.s_[:, -self.window :]
            types, gaps = state.history_types[cut], np.ascontiguousarray(state.history_gaps[cut])
            context = derive_context(types, gaps)
            state = State(state.history_items[cut], types, gaps, state.history_values[cut], state.user, context)
        items = state.history_items
        if not self.same_items:
            items = self.items[items]
            if candidates.strides[0] == 0:
                candidates = np.broadcast_to(self.items[candidates[0]], candidates.shape)
            else:
                candidates = self.items[candidates]
        types, user = self.types[state.history_types], self.user(state.user)
        state = state._replace(history_items=items, history_types=types, user=user)
        return Observation(state, observation.actions._replace(candidates=candidates))

    def user(self, user: FloatArray) -> FloatArray:
        """User features [B, U] as the model encodes them."""
        out = (user[:, np.maximum(self.user_columns, 0)] - self.user_mean) / self.user_std
        out[:, self.user_columns < 0] = 0
        return out

    def rows(self, rows: EventRows) -> EventRows:
        """History rows in the model's indices."""
        return rows._replace(item=self.items[rows.item].astype(np.int32), type=self.types[rows.type].astype(np.uint8))


class TranslatedEngine:
    """An engine in a model's indices; actions are positions and need no translation."""

    def __init__(self, engine: Engine, translation: Translation) -> None:
        self.engine, self.translation = engine, translation
        self.item_ids, self.type_names = engine.item_ids, engine.type_names
        self.component_names, self.component_weights = engine.component_names, engine.component_weights
        self.item_features, self.feature_names = engine.item_features, engine.feature_names
        self.user_feature_names = engine.user_feature_names

    def reset(self, seed: int, n: int) -> Observation:
        """As the engine's."""
        return self.translation.observation(self.engine.reset(seed, n))

    def step(self, actions: NDArray[np.int64]) -> Feedback:
        """As the engine's."""
        feedback = self.engine.step(actions)
        final = feedback.final_actions
        if final is not None:
            final = final._replace(candidates=self.translation.items[final.candidates])
        return feedback._replace(
            obs=self.translation.observation(feedback.obs),
            rows=self.translation.rows(feedback.rows),
            final_actions=final,
            user=None if feedback.user is None else self.translation.user(feedback.user),
        )


class TranslatedScorer:
    """A scorer in a model's indices, for the observations of an engine."""

    def __init__(self, scorer: Scorer, translation: Translation) -> None:
        self.scorer, self.translation, self.name = scorer, translation, scorer.name

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K] of the engine's candidates."""
        return self.scorer.scores(self.translation.observation(observation))
