"""A model as a guard: it reads a text and answers with one of the labels that it was given."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.controls.clock import Clock
from workbench.controls.completions import checked_completion
from workbench.controls.guards.matches import Rule
from workbench.controls.guards.model import Action, Stage
from workbench.controls.guards.slow import BadVerdict, Verdict
from workbench.controls.providers import ProviderFactory
from workbench.spec.folding import folded
from workbench.spec.guards import Judge

_MOST_TOKENS = 64


class LabelJudge:
    """Asks a model for a label.

    Args:
        spec: the labels, and what they order.
        prompt: tells the judge what to look at, and the labels.
        provider: answers for the model.
    """

    def __init__(self, spec: Judge, *, prompt: str, provider: ProviderFactory) -> None:
        self.rule_id = spec.id
        self.stages = frozenset(Stage(stage) for stage in spec.stages)
        self.on_error = Action(spec.on_error)
        self.timeout_s = spec.timeout.total_seconds()
        self.redacts = False
        self._model = spec.model
        self._prompt = prompt
        self._provider = provider
        self._verdicts: Mapping[str, Verdict] = {
            folded(label): Verdict(finding=Rule(rule_id=spec.id, action=Action(order)), reason="passed" if order == "allow" else "matched")
            for label, order in spec.labels.items()
        }
        if spec.unsure is not None:
            unsure = Rule(rule_id=spec.id, action=Action.HANDOFF, sentence="It is not certain that this is allowed.")
            self._verdicts = {**self._verdicts, folded(spec.unsure): Verdict(finding=unsure, reason="unsure")}

    async def check(self, text: str, clock: Clock) -> Verdict:
        request = {
            "model": self._model,
            "messages": [{"role": "system", "content": self._prompt}, {"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": _MOST_TOKENS,
        }
        response = checked_completion(await self._provider(clock).complete(request))
        said = response["choices"][0]["message"].get("content")
        verdict = self._verdicts.get(folded(said)) if isinstance(said, str) else None
        if verdict is None:  # none of the labels: what the judge says cannot be told from what the text made it say
            raise BadVerdict
        return verdict
