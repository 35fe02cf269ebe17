"""`bundle.yaml`: everything that decides how an assistant behaves. Paths are relative to the file and stay inside the app folder."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workbench.spec.base import Name, Number, Spec, Text
from workbench.spec.controls import Controls

PartName = Literal["model", "prompts", "orchestration", "retrieval", "policy", "controls", "environment"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Model(Spec):
    """The model behind the assistant."""

    provider: Text
    name: Text
    version: str | None = None
    """The exact, immutable version. Absent means that the provider may change it under you."""
    params: dict[str, Any] = Field(default_factory=dict)


class Tool(Spec):
    """Something the assistant may do."""

    name: Text
    description: str = ""
    side_effect: Literal["read", "write", "unknown"] = "unknown"
    parameters: dict[str, Any] = Field(default_factory=dict)
    """JSON Schema of the arguments."""


class Orchestration(Spec):
    """The code around the model."""

    entry: str | None = None
    """`package.module:callable` for a hosted bundle."""
    code: tuple[str, ...] = ()
    """Files or folders."""
    artifact: Digest | None = None
    """Digest of a built artifact, in place of code files."""
    tools: tuple[Tool, ...] = ()
    limits: dict[str, int | float] = Field(default_factory=dict)
    """For example `{max_turns: 6}`."""


class Source(Spec):
    """Documents that answers are drawn from: a file, or a named immutable snapshot."""

    name: Text
    file: str | None = None
    snapshot: str | None = None


class Index(Spec):
    """The search index: a file, or an external one with its digest or immutable snapshot id."""

    file: str | None = None
    name: str | None = None
    digest: Digest | None = None
    snapshot: str | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.file is None and self.name is None:
            raise ValueError("an index has a file or a name")
        return self


class Embedding(Spec):
    """The model that turns text into vectors."""

    provider: Text
    name: Text
    version: str | None = None


class Retrieval(Spec):
    """What the assistant looks up."""

    sources: tuple[Source, ...] = ()
    index: Index | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    embedding: Embedding | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class Policy(Spec):
    """What the assistant must not do."""

    rules: str | None = None
    """File with the rules, in words."""
    guards: str | None = None
    """File with the guards that enforce them: `guards.yaml`."""
    thresholds: dict[str, Number] = Field(default_factory=dict)


class Environment(Spec):
    """What the code runs on: a lock file or an image digest."""

    lock: str | None = None
    image: Digest | None = None


class BundleSpec(Spec):
    """One version of an assistant, whole."""

    app: Name
    name: Text
    """A label for people; the digest is the identity."""
    model: Model
    prompts: dict[Name, str] = Field(default_factory=dict)
    """Prompt name to file."""
    orchestration: Orchestration = Orchestration()
    retrieval: Retrieval | None = None
    policy: Policy | None = None
    controls: Controls | None = None
    environment: Environment | None = None
    external: tuple[PartName, ...] = ()
    """Parts that the client runs itself; the workbench records but does not enforce them."""
