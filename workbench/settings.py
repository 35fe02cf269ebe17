"""The settings of a process: where its stores are and what it may take, by environment variables with the prefix `WORKBENCH_`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from workbench.errors import UsageError
from workbench.spec.base import Duration


class Settings(BaseSettings):
    """Where the stores are. Every field is also an environment variable with the prefix `WORKBENCH_`."""

    model_config = SettingsConfigDict(env_prefix="WORKBENCH_", frozen=True, use_attribute_docstrings=True)

    home: Path = Path(".workbench")
    """The workspace folder; one workspace is one environment."""
    ledger: str = ""
    """`postgresql://…` for a ledger on a server; by default SQLite inside the workspace."""
    catalog: str = ""
    """`postgres:…` (libpq words) for a lake catalogue on a server; by default SQLite inside the workspace."""
    data: str = ""
    """Folder or `s3://…` prefix of the lake's Parquet files; by default inside the workspace."""
    spool: Literal["write", "durable"] = "write"
    """`write` survives a killed process, `durable` a power cut."""
    spool_quota: ByteSize = Field(default=ByteSize(2 << 30), ge=1 << 20)
    """What the rows of one process may take on their way into the log, for example `512MB`; beyond it calls are refused."""
    log_memory: ByteSize = Field(default=ByteSize(1200 << 20), ge=256 << 20)
    """What the log's engine may take of each process, for example `2GiB`; never more than half of the machine's. What outgrows it goes on
    on disk, but for exact percentiles, which hold 8 bytes a request for each column."""
    score: bool = True
    """Whether gateways score live answers of apps that declare scorers."""
    carry: bool = True
    """Whether gateways carry releases by their plans. False is the switch that leaves every release to people."""
    upkeep: Duration | Literal["off"] = timedelta(minutes=5)
    """How often gateways keep the log: merge its files, finish erasures. `off` leaves that to `workbench lake maintain`."""
    route_keep_s: float = 30.0
    """Seconds that a gateway serves a candidate by the last route it read while the ledger is out of reach; then stable only."""
    trace_quiet_s: float = Field(default=10.0, ge=0)
    """Seconds without a new span after which the requests of a trace are final; what comes later makes another revision."""
    most_in_flight: int = 1000
    """Calls that one process answers at once; more are refused."""
    vault_key: SecretStr = SecretStr("")
    """Seals the raw text that people must see: 64 hexadecimal digits. Without a key nothing is held for a person."""
    vault_key_file: str = ""
    """The same from a file outside of the workspace, a key per line: the first seals, all of them open."""
    person: str = ""
    """Who acts, by name; only in the demo's workspace, where there is nobody to be mistaken for."""

    def stores(self) -> dict[str, str]:
        """Where the stores are, as environment variables for another process."""
        names = ("home", "ledger", "catalog", "data")
        return {f"WORKBENCH_{name.upper()}": str(getattr(self, name)) for name in names} | {"WORKBENCH_HOME": str(self.home.absolute())}

    @property
    def upkeep_every(self) -> timedelta | None:
        """How often gateways keep the log; None for never."""
        return None if self.upkeep == "off" else self.upkeep


def default_home() -> Path:
    """Where `Workspace.open()` would look, absolute."""
    return read_settings().home.absolute()


_NEEDED = {
    "spool": "`write` (survives a killed process) or `durable` (also a power cut)",
    "spool_quota": "a size of at least 1MiB, for example 512MiB",
    "log_memory": "a size of at least 256MiB, for example 1200MiB",
    "score": "true or false",
    "carry": "true or false",
    "upkeep": "how often, for example 5m, or off",
    "route_keep_s": "seconds, for example 30",
    "trace_quiet_s": "seconds from 0 on, for example 10",
    "most_in_flight": "a whole number of calls, for example 1000",
}
"""What the settings that not every text suits are given as. None of them is a secret."""
_LONGEST_SHOWN = 16
"""Characters of a value that are repeated; keys and addresses with passwords are longer."""


def read_settings(**given: Any) -> Settings:
    """The settings, from what is given and the environment.

    Raises:
        UsageError: a variable has a value that makes no sense.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        variable = f"WORKBENCH_{name.upper()}"
        seen = _shown(str(fault["input"])) if name in _NEEDED else fault["msg"].removeprefix("Value error, ")
        raise UsageError(variable, seen=seen, needed=_NEEDED.get(name, ""), next_step=f"correct {variable} or unset it") from None


def _shown(value: str) -> str:
    """The value as it may be repeated: what stands in the wrong variable may be a secret."""
    is_harmless = len(value) <= _LONGEST_SHOWN and "@" not in value
    return repr(value) if is_harmless else f"a text of {len(value)} characters"
