"""The one table of names: which attribute of which dialect says what. Data; `facts.py` reads it.

Dialects: OpenTelemetry's GenAI conventions (present and deprecated names), OpenInference, OpenLLMetry. None of them is stable, so
spans keep their own attributes, and each notes the version of the table by which its columns were filled. Of several names the
first that is present counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ALIAS_VERSION = "1"
"""Changes whenever the same span would be read differently."""

TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "operation": ("gen_ai.operation.name",),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor"),
    "model_requested": ("gen_ai.request.model", "llm.request.model_name", "llm.request.model"),
    "model_served": (
        "gen_ai.response.model", "llm.response.model_name", "llm.response.model", "llm.model_name", "embedding.model_name",
        "reranker.model_name",
    ),
    "response_id": ("gen_ai.response.id", "llm.response.id"),
    "finish_reason": (
        "gen_ai.response.finish_reasons", "llm.finish_reason", "llm.response.finish_reason", "gen_ai.completion.0.finish_reason",
    ),
    "session": (
        "workbench.session", "session.id", "gen_ai.conversation.id", "traceloop.association.properties.session_id",
        "traceloop.association.properties.conversation_id", "traceloop.association.properties.thread_id", "langfuse.session.id",
    ),
    "workflow": ("workbench.workflow", "gen_ai.workflow.name", "traceloop.workflow.name"),
    "error_type": ("error.type", "exception.type"),
    "tool_name": ("gen_ai.tool.name", "tool.name", "tool_call.function.name"),
    "tool_call_id": ("gen_ai.tool.call.id", "tool_call.id", "tool.id"),
    "retrieval_query": ("gen_ai.retrieval.query.text", "input.value", "traceloop.entity.input", "input"),
    "rule_id": ("workbench.rule", "gen_ai.guardrail.name", "guardrail.name"),
    "action": ("workbench.action", "gen_ai.guardrail.action", "guardrail.action"),
})  # fmt: skip
"""Column or part of a request to the attributes that give it as text."""

COUNTS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt", "llm.usage.prompt_tokens"),
    "output_tokens": (
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion", "llm.usage.completion_tokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
})  # fmt: skip
"""Token columns. The last three are parts of the first two in every dialect, and are never added to them."""

COSTS = ("workbench.cost_usd", "llm.cost.total", "gen_ai.usage.cost")
"""US dollars of one model call."""
FIRST_TOKEN_S = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
"""Seconds from the beginning of the span."""
FIRST_TOKEN_EVENTS = ("First Token Stream Event",)
"""Events at whose time the first token was there."""

UNITS = (
    "workbench.unit", "user.id", "enduser.id", "enduser.pseudo.id", "traceloop.association.properties.user_id", "langfuse.user.id",
)  # fmt: skip
"""Whom a request was for. What stands there is stored as the unit's hash only."""

SERVING: Mapping[str, str] = MappingProxyType({
    "bundle": "workbench.bundle",
    "arm": "workbench.arm",
    "traffic_share": "workbench.share",
    "route_version": "workbench.route_version",
    "release_id": "workbench.release_id",
})  # fmt: skip
"""What an app that runs its bundle itself says about the version that served."""
APP = "workbench.app"
REQUEST = "workbench.request"
"""True on a span that is a request of its own, wherever it stands in its trace."""

KINDS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "openinference.span.kind": {
        "LLM": "model", "EMBEDDING": "model", "TOOL": "tool", "RETRIEVER": "retrieval", "AGENT": "agent", "CHAIN": "agent",
        "GUARDRAIL": "guard", "RERANKER": "other", "EVALUATOR": "other", "PROMPT": "other", "DECISION": "other",
    },
    "gen_ai.operation.name": {
        "chat": "model", "text_completion": "model", "generate_content": "model", "embeddings": "model", "retrieval": "retrieval",
        "execute_tool": "tool", "invoke_agent": "agent", "invoke_workflow": "agent", "create_agent": "other", "plan": "other",
    },
    "traceloop.span.kind": {"workflow": "agent", "agent": "agent", "tool": "tool", "task": "other", "session": "other", "unknown": "other"},
    "llm.request.type": {"chat": "model", "completion": "model", "embedding": "model", "rerank": "other"},
})  # fmt: skip
"""Attribute to its values and the kind of span that each means, in the order in which they are asked."""
KIND_BY_PRESENCE: tuple[tuple[str, str], ...] = (
    ("gen_ai.tool.name", "tool"),
    ("gen_ai.tool.call.id", "tool"),
    ("gen_ai.retrieval.query.text", "retrieval"),
    ("gen_ai.retrieval.documents", "retrieval"),
    ("vector_db.vendor", "retrieval"),
    ("workbench.rule", "guard"),
    ("gen_ai.request.model", "model"),
    ("gen_ai.response.model", "model"),
    ("llm.model_name", "model"),
    *((name, "model") for names in COUNTS.values() for name in names),
)
"""What a span is that names no kind, by the first of these attributes that it has."""
OPERATIONS: Mapping[str, str] = MappingProxyType({
    "LLM": "chat", "EMBEDDING": "embeddings", "TOOL": "execute_tool", "RETRIEVER": "retrieval", "AGENT": "invoke_agent",
    "CHAIN": "invoke_workflow", "workflow": "invoke_workflow", "agent": "invoke_agent", "tool": "execute_tool", "chat": "chat",
    "completion": "text_completion", "embedding": "embeddings",
})  # fmt: skip
"""Values of the other dialects' kinds to OpenTelemetry's name of the operation."""
AI_PREFIXES = ("gen_ai.", "llm.", "openinference.", "traceloop.", "workbench.")
"""A span that has an attribute of such a name has to do with a model, whatever its kind."""
NO_AI_NAMES = frozenset(("workbench.app", "workbench.session", "workbench.unit", *SERVING.values()))
"""Names of ours that a whole process may put on everything it sends."""

INPUTS = ("gen_ai.input.messages", "gen_ai.prompt", "input.value", "traceloop.entity.input", "input")
OUTPUTS = ("gen_ai.output.messages", "gen_ai.completion", "output.value", "traceloop.entity.output", "output")
"""Attributes with messages, or with any JSON or text, in one piece."""
FLAT_INPUTS = ("llm.input_messages.", "gen_ai.prompt.")
FLAT_OUTPUTS = ("llm.output_messages.", "gen_ai.completion.")
"""Beginnings of messages that are spread over an attribute for each of their leaves."""
SYSTEM = "gen_ai.system_instructions"
INVOCATION = ("llm.invocation_parameters",)
"""JSON text with the parameters of a call, its `model` among them."""
TOOL_ARGUMENTS = (
    "gen_ai.tool.call.arguments", "tool_call.function.arguments", "traceloop.entity.input", "input.value", "input", "tool.parameters",
)  # fmt: skip
"""OpenInference's `tool.parameters` is the tool's schema in some instrumentations, so it comes last."""
TOOL_RESULTS = ("gen_ai.tool.call.result", "tool.output", "traceloop.entity.output", "output.value", "output")
DOCUMENTS = "gen_ai.retrieval.documents"
FLAT_DOCUMENTS = "retrieval.documents."
DOCUMENT_EVENT, DOCUMENT_ID, DOCUMENT_SCORE = "db.query.result", "db.query.result.id", "db.query.result.score"

MESSAGE_EVENTS: Mapping[str, str] = MappingProxyType({
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
})  # fmt: skip
"""Events that each hold one message of the input, with its role."""
CHOICE_EVENT = "gen_ai.choice"
DETAIL_EVENTS = ("gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion")
"""Events whose attributes are read as if they stood on the span."""
SCORE_EVENT = "gen_ai.evaluation.result"
SCORE_NAME, SCORE_VALUE, SCORE_LABEL, SCORE_WHY = (
    f"gen_ai.evaluation.{part}" for part in ("name", "score.value", "score.label", "explanation")
)
SCORE_SOURCE = "workbench.score.source"
FLAT_SCORES = (("evaluations.", "evaluation"), ("annotations.", "annotation"))
"""Beginnings of OpenInference's judgements, spread over an attribute for each of their leaves, and what each item is called there."""
ANNOTATORS: Mapping[str, str] = MappingProxyType({"HUMAN": "human", "LLM": "judge", "CODE": "rule"})
"""Who judged, in its words, and in ours."""
EXCEPTION_EVENT = "exception"

TIMEOUTS = ("timeout", "timed_out", "deadlineexceeded", "deadline_exceeded", "504", "408")
CANCELLATIONS = ("cancelled", "canceled")
"""Parts of an error's type, in small letters, that say how a call ended."""
FINISHED: Mapping[str, str] = MappingProxyType({
    "length": "truncated", "max_tokens": "truncated", "MAX_TOKENS": "truncated", "content_filter": "blocked", "SAFETY": "blocked",
    "refusal": "blocked",
})  # fmt: skip
"""Why a model stopped, where that is a status."""
