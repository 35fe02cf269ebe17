"""The ledger's tables as they are now. Older shapes live in `migrations`; a test holds the two equal."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

from workbench.ledger.types import Json, Serial, UtcDateTime, UtcText

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="1, 2, 3 … without gaps"),
    Column("time", UtcText, nullable=False),
    Column("actor", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("assurance", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("app", Text, doc="null for an act on the whole workspace"),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False, doc="canonical JSON; never a secret"),
    Column("previous", String(71), nullable=False, doc="digest of the entry before"),
    Column("digest", String(71), nullable=False, doc="sha256 over the canonical JSON of all other columns"),
)
Index("ix_audit_app_seq", audit.c.app, audit.c.seq)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Serial, nullable=False, doc="newest entry, 0 before the first"),
    Column("digest", String(71), nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False, doc="bytes"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("bundle_id", Text, primary_key=True, doc="app@<first 12 hex of the digest>"),
    Column("seq", Serial, nullable=False, unique=True, doc="audit entry of the registration; orders the registry"),
    Column("app", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("spec", Json, nullable=False, doc="the spec as read"),
    Column("manifest", Json, nullable=False, doc="the hashed value: parts with files replaced by their digests"),
    Column("unpinned", Json, nullable=False),
    Column("external", Json, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("registered_by", Text, nullable=False),
)
Index("ix_bundles_app_seq", bundles.c.app, bundles.c.seq)

declarations = Table(
    "declarations",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="audit entry of the declaration; the newest counts"),
    Column("app", Text, nullable=False),
    Column("kind", Text, nullable=False, doc="app, people, gates, plan, rota, slo or metrics"),
    Column("digest", String(71), nullable=False),
    Column("content", Json, doc="null when the file was taken away"),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("registered_by", Text, nullable=False),
)
Index("ix_declarations_app_kind_seq", declarations.c.app, declarations.c.kind, declarations.c.seq)

evidence = Table(
    "evidence",
    metadata,
    Column("evidence_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("subject", Text, nullable=False, doc="bundle id"),
    Column("baseline", Text, doc="bundle id compared with"),
    Column("query", Json, nullable=False),
    Column("statistics", Json, nullable=False),
    Column("row_n", BigInteger, nullable=False),
    Column("row_digest", Text),
    Column("row_first", UtcDateTime),
    Column("row_last", UtcDateTime),
    Column("snapshot", BigInteger),
    Column("collected_at", UtcDateTime, nullable=False),
)
Index("ix_evidence_app_subject", evidence.c.app, evidence.c.subject)

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", Text, primary_key=True),
    Column("reviewed_at", UtcDateTime, primary_key=True),
    Column("app", Text, nullable=False),
    Column("bundle_id", Text, nullable=False),
    Column("baseline_id", Text),
    Column("verdict", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("reviewed_by", Text, nullable=False),
)
Index("ix_reviews_app_reviewed_at", reviews.c.app, reviews.c.reviewed_at)

routes = Table(
    "routes",
    metadata,
    Column("app", Text, primary_key=True),
    Column("stable", Text, doc="bundle id; null before the first promotion and after a rollback to nothing"),
    Column("candidate", Text, doc="bundle id; null outside a canary"),
    Column("share", Float, nullable=False, doc="of units that the candidate serves, 0 to 1"),
    Column("salt", Text, nullable=False, doc="of the release; decides which units those are"),
    Column("release_id", Text),
    Column("without_stable", Text, nullable=False, doc="fallback or off: what a unit gets where there is no stable bundle"),
    Column("version", Integer, nullable=False, doc="the route_version: grows with every change"),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("shadow", Text, doc="bundle id that answers copies, which nobody hears; null outside a shadow stage"),
    Column("shadow_share", Float, nullable=False, server_default="0", doc="of units whose requests are copied, 0 to 1"),
    Column("drains", Boolean, nullable=False, server_default=false(), doc="whether a talk ends on the bundle that it began on"),
    Column("retiring", Text, doc="bundle id that served before the last promotion; only talks that began on it may end on it"),
    CheckConstraint("share >= 0 AND share <= 1", name="share"),
)

releases = Table(
    "releases",
    metadata,
    Column("release_id", Text, primary_key=True),
    Column("app", Text, nullable=False),
    Column("kind", Text, nullable=False, doc="release or rollback"),
    Column("state", Text, nullable=False),
    Column("step", Integer, doc="place in the plan, from 0; null before the canary and in its shadow stage"),
    Column("bundle_id", Text, doc="the candidate; of a rollback, what it restored, null when there was nothing to restore"),
    Column("previous_stable", Text, doc="bundle id in service at the start; null for a first release"),
    Column("plan", Json, nullable=False, doc="the rollout plan as it was at the start"),
    Column("plan_digest", String(71), nullable=False),
    Column("review_id", Text, doc="the review that it stands on; null for a rollback"),
    Column("salt", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("step_since", UtcDateTime, doc="start of the present step"),
    Column("note", Text, nullable=False, doc="why it is held, or how it ended; empty otherwise"),
    Column("ended_at", UtcDateTime),
    Column("version", Integer, nullable=False),
)
Index("ix_releases_app_requested_at", releases.c.app, releases.c.requested_at)
Index(
    "uq_releases_open",
    releases.c.app,
    unique=True,
    sqlite_where=releases.c.ended_at.is_(None),
    postgresql_where=releases.c.ended_at.is_(None),
)

approvals = Table(
    "approvals",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="audit entry of the decision"),
    Column("release_id", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("decision", Text, nullable=False, doc="approve, reject or break_glass"),
    Column("binds", Json, nullable=False, doc="digests that were approved: bundle, review, plan"),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("ix_approvals_release_id", approvals.c.release_id)

locks = Table(
    "locks",
    metadata,
    Column("app", Text, primary_key=True),
    Column("kind", Text, primary_key=True, doc="lock: only its holder releases; freeze: nobody does"),
    Column("holder", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

rota_overrides = Table(
    "rota_overrides",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="audit entry; where two overlap the later one counts"),
    Column("app", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("start", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("declared_by", Text, nullable=False),
    Column("declared_at", UtcDateTime, nullable=False),
)
Index("ix_rota_overrides_app_until", rota_overrides.c.app, rota_overrides.c.until)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True, doc="public part of the key"),
    Column("digest", String(71), nullable=False, doc="sha256 of the whole key, which is 256 random bits"),
    Column("app", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("revoked_by", Text),
    Column("version", Integer, nullable=False),
)
Index("ix_api_keys_app", api_keys.c.app)

inbox = Table(
    "inbox",
    metadata,
    Column("delivery", Text, primary_key=True, doc="the delivery's own key: the same for every repetition"),
    Column("intent", Json, nullable=False, doc="what was asked for, and by whom; never a secret"),
    Column("state", Text, nullable=False, doc="waiting, working or done"),
    Column("received_at", UtcDateTime, nullable=False),
    Column("worker", Text),
    Column("leased_until", UtcDateTime),
    Column("attempts", Integer, nullable=False),
    Column("outcome", Json),
    Column("finished_at", UtcDateTime),
    Column("version", Integer, nullable=False),
)
Index("ix_inbox_state_received_at", inbox.c.state, inbox.c.received_at)

messages = Table(
    "messages",
    metadata,
    Column("name", Text, primary_key=True, doc="what it shows, for example release:<id>@<channel>"),
    Column("channel", Text, nullable=False),
    Column("ts", Text, nullable=False, doc="the chat's own id of the message"),
    Column("digest", String(71), nullable=False, doc="of what it says now, so that nothing is posted twice"),
    Column("changed_at", UtcDateTime, nullable=False),
)

vault = Table(
    "vault",
    metadata,
    Column("item_id", Text, primary_key=True, doc="what the text belongs to, for example a handoff"),
    Column("kind", Text, primary_key=True, doc="which of its texts"),
    Column("unit_hash", Text, doc="whose text it is, so that it can be erased"),
    Column("key_id", Text, nullable=False, doc="of the key that it is sealed with"),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False, doc="AES-256-GCM; item, kind and end are its associated data"),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("ix_vault_expires_at", vault.c.expires_at)
Index("ix_vault_unit_hash", vault.c.unit_hash)

handoffs = Table(
    "handoffs",
    metadata,
    Column("handoff_id", Text, primary_key=True),
    Column("app", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("bundle_id", Text),
    Column("unit_hash", Text),
    Column("session_id", Text),
    Column("workflow", Text, nullable=False),
    Column("kind", Text, nullable=False, doc="answer or tool_call"),
    Column("mode", Text, nullable=False, doc="hold: withheld until decided; flag: released, to be judged"),
    Column("signals", Json, nullable=False, doc="codes of why a person is asked"),
    Column("state", Text, nullable=False),
    Column("claimed_by", Text),
    Column("lease_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False, doc="undecided until then, it expires"),
    Column("expires_at", UtcDateTime, nullable=False, doc="its text is gone then, delivered or not"),
    Column("shown_digest", String(64), doc="HMAC of what people are shown; null where no text is kept"),
    Column("decision", Text, doc="approved, answered or rejected; null before that"),
    Column("answer_digest", String(64), doc="HMAC of the answer in somebody's own words"),
    Column("decided_by", Text),
    Column("decided_at", UtcDateTime),
    Column("callback", Text, doc="name of the app's declared callback"),
    Column("attempts", Integer, nullable=False, doc="to deliver it by the callback"),
    Column("next_attempt_at", UtcDateTime),
    Column("fault", Text, doc="why the last attempt failed"),
    Column("delivered_at", UtcDateTime),
    Column("version", Integer, nullable=False),
)
Index("ix_handoffs_state_due_at", handoffs.c.state, handoffs.c.due_at)
Index("ix_handoffs_app_created_at", handoffs.c.app, handoffs.c.created_at)
Index("ix_handoffs_unit_hash", handoffs.c.unit_hash)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True, doc="what is led"),
    Column("holder", Text, nullable=False, doc="the process that leads; empty where it gave it back"),
    Column("token", Serial, nullable=False, doc="fence: grows with every holder, and what is written under an older one is refused"),
    Column("beat", Serial, nullable=False, doc="grows while its holder lives; nobody's wall clock counts"),
)

watches = Table(
    "watches",
    metadata,
    Column("release_id", Text, primary_key=True),
    Column("step", Integer, nullable=False, doc="the step that `run_s` is of"),
    Column("run_s", Float, nullable=False, doc="seconds of the step that count: those with data and a controller"),
    Column("canary_s", Float, nullable=False, doc="the same of all steps, for the deadline"),
    Column("high_water", BigInteger, nullable=False, doc="newest batch of the log that the judge has read"),
    Column("plan", Json, nullable=False, doc="of the judge, fixed before the first look; with the log up to that batch it gives its state"),
    Column("standing", Json, nullable=False, doc="the newest judgement and what stands in the way, for whoever looks"),
    Column("newest_row_at", UtcDateTime, doc="of the app's requests in the log"),
    Column("looked_at", UtcDateTime, nullable=False),
    Column("token", Serial, nullable=False, doc="of the lease under which it was written"),
    Column("version", Integer, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("release_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, doc="1, 2, 3 … in its release"),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("release_version", Integer, nullable=False, doc="the version of the release that it was decided on"),
    Column("step", Integer, nullable=False),
    Column("decision", Text, nullable=False, doc="PROMOTE, CONTINUE, HOLD or ROLLBACK"),
    Column("reason", Text, nullable=False, doc="short and stable"),
    Column("sentence", Text, nullable=False),
    Column("inputs", Json, nullable=False, doc="all that it was decided on, so that it can be decided again"),
    Column("inputs_digest", String(71), nullable=False),
    Column("token", Serial, nullable=False, doc="of the lease under which it was decided"),
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("gateway", Text, primary_key=True, doc="the process that serves: host, process id, and a random part"),
    Column("app", Text, primary_key=True),
    Column("route_version", Integer, nullable=False, doc="of the route that it serves the app by"),
    Column("heard_at", UtcDateTime, nullable=False, doc="when it last said so; it says so again while it lives"),
)

broken_glass = Table(
    "broken_glass",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="audit entry of the act"),
    Column("release_id", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("person", Text, nullable=False, doc="who let the release go alone"),
    Column("known_as", Json, nullable=False, doc="every name of theirs at that moment, so that a later one is no second person"),
    Column("reason", Text, nullable=False),
    Column("called", Json, nullable=False, doc="who was to be told at once: the people on call, and those who may approve"),
    Column("broken_at", UtcDateTime, nullable=False),
    Column("review_due_at", UtcDateTime, nullable=False, doc="a second person looks at it until then"),
    Column("verdict", Text, doc="justified or not_justified; null until it was reviewed"),
    Column("reviewed_by", Text),
    Column("reviewed_at", UtcDateTime),
    Column("review_reason", Text),
    Column("version", Integer, nullable=False),
)
Index("ix_broken_glass_app_seq", broken_glass.c.app, broken_glass.c.seq)
