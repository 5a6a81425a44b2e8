"""The text of a gate decision's document: what was compared, the verdict with its reasons, and the next steps."""

from datetime import UTC, datetime
from typing import get_args

from pydantic import Field

from tasks.core.gate.checks import Check
from tasks.core.gate.decide import GateDecision, Verdict
from tasks.core.gate.evidence import compared_with
from tasks.core.reporting import gate_words
from tasks.core.store.documents import Document

CONFIDENCE = (
    "Both models drew the same prompts from the same seeds. A difference is the challenger's figure less the "
    "champion's, followed by its {:.0%} confidence interval, which is wide if the prompts disagree. The primary "
    "measure must be better over its whole interval. Every other measure must stay within its margin over its whole "
    "interval: the margin is the loss that is accepted, since no measurement is exact. An undecided one was measured "
    "again with other seeds; the primary measure never is, since repeated looks would find a gain by chance."
)


class About(Document):
    """The subject of a decision, for the document."""

    model: str
    training: str  # key of the challenger's training
    release: str = ""  # of the challenger, if it has one
    champion_generation: int | None = 0  # 0: the bare base; None: nothing to compare with
    champion_release: str = ""
    dataset: str
    dataset_version: str
    scorer: str
    scale: str = ""  # formula from cosine to score
    prompt_set: str = ""  # its version
    prompts: dict[str, int] = Field(default_factory=dict)  # number of each kind
    seeds: tuple[int, ...] = ()
    held: int | None = None  # held-out pictures for style fidelity, as in Evidence
    confidence: float = 0.95
    generation: int = 0  # of the promoted challenger; 0: not promoted
    actor: str = ""  # a person who overruled the gate
    reason: str = ""  # why
    time: datetime

    @property
    def overruled(self) -> bool:
        """Whether a person overruled the gate."""
        return bool(self.actor)

    @property
    def champion(self) -> str:
        """Description of the champion."""
        if self.champion_generation is None:
            return "nothing: there is no champion yet"
        return f"generation {self.champion_generation}" if self.champion_generation else "the bare base model"

    @property
    def challenger(self) -> str:
        """Description of the challenger by its release, or else its training."""
        return f"release {self.release}" if self.release else f"training {self.training}"


def outcome(decision: GateDecision, about: About) -> str:
    """The outcome, in a word."""
    if about.overruled and decision.verdict != "promote":
        return "overruled"
    return decision.verdict


def headline(decision: GateDecision, about: About) -> str:
    """The verdict in a few words."""
    stays = "The bare base stays" if not about.champion_generation else f"Generation {about.champion_generation} stays"
    promoted = f"Promoted as generation {about.generation}" if about.generation else "The challenger may be promoted"
    return {
        "promote": promoted,
        "keep": stays,
        "inconclusive": f"{stays} for now",
        "overruled": f"{promoted}, by {about.actor} against the gate",
    }.get(outcome(decision, about), f"{promoted if about.generation else stays}: {decision.verdict}")


def sentence(decision: GateDecision, about: About) -> str:
    """The verdict and its figures, as one sentence."""
    kind, why = outcome(decision, about), _why(decision)
    if kind == "overruled":
        return f"{about.actor} promoted the challenger ({about.reason}) although the gate would not have: {why}."
    does = {
        "promote": "replaces" if about.generation else "may replace",
        "keep": "does not replace",
        "inconclusive": "does not replace",
    }.get(kind, "replaces" if about.generation else "does not replace")
    over = about.champion if about.champion_generation is not None else "the bare base model"
    return f"The challenger {does} {over}: {why}."


def deciding(decision: GateDecision) -> list[Check]:
    """The checks that the challenger did not pass; none if it is promoted."""
    return [c for c in decision.checks if c.verdict == ("unsure" if decision.verdict == "inconclusive" else "failed")]


def _why(decision: GateDecision) -> str:
    if against := deciding(decision):
        return "; ".join(gate_words.clause(check) for check in against)
    if decision.verdict not in get_args(Verdict):
        return decision.reason
    better = "; ".join(gate_words.clause(c) for c in decision.checks if c.kind == "superiority")
    rest = sum(c.kind != "superiority" for c in decision.checks)
    return f"{better}, and all {rest} other checks are passed" if better else f"all {rest} checks are passed"


def compared(decision: GateDecision, about: About) -> dict[str, str]:
    """The facts of the comparison, by name."""
    prompts = ", ".join(f"{count} {kind}" for kind, count in about.prompts.items())
    version = f" (set {about.prompt_set})" if about.prompt_set else ""
    again = [f"{gate_words.label(c)}: {gate_words.looks(c)}" for c in decision.checks if c.looks > 1]
    release = f", release {about.champion_release}" if about.champion_release else ""
    rows = {
        "model": about.model,
        "challenger": about.challenger,
        "compared with": f"{about.champion}{release}",
        "trained on": f"version {about.dataset_version} of {about.dataset}",
        "prompts": f"{prompts}{version}" if prompts else "",
        "seeds": f"{len(about.seeds)} for each prompt, the same for both" if about.seeds else "",
        "style compared with": compared_with(about.held),
        "scorer": f"{about.scorer}{f', {about.scale}' if about.scale else ''}",
        "measured again": ", ".join(again),
        "decided": moment(about.time),
        "overruled by": f"{about.actor}: {about.reason}" if about.actor else "",
    }
    return {name: value for name, value in rows.items() if value}


def follows(decision: GateDecision, about: About) -> list[str]:
    """The next steps."""
    if about.generation:
        before = about.champion_generation or 0
        back = "" if not before else f" The deployment roll-back restores generation {before} within seconds."
        return [f"Generation {about.generation} is the champion: publish-champion serves it.{back}"]
    if decision.verdict == "promote":
        return ["The challenger passed the gate and is not promoted yet: run promote-champion."]
    return [
        "Nothing changes for users, and drift alone does not start another training on the same data.",
        *gate_words.advice(deciding(decision)),
        "A person can overrule the gate: promote-champion with spec.actor and spec.reason, which are recorded in the "
        "ledger.",
    ]


def reading(about: About) -> str:
    """How to read the intervals."""
    return CONFIDENCE.format(about.confidence)


def measures(decision: GateDecision) -> dict[str, str]:
    """The meaning of each measure of the checks, by its name."""
    seen = {check.measure for check in decision.checks}
    return {gate_words.MEASURES[m]: meaning for m, meaning in gate_words.MEANINGS.items() if m in seen}


def moment(time: datetime) -> str:
    """A time for readers, in UTC."""
    there = time.astimezone(UTC)
    return f"{there.day} {there:%B %Y, %H:%M} UTC"
