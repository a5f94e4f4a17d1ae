"""The settings of an installation, read once at the top and passed down."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_PIPELINES = ("actors.analysis:analysis", "actors.dialogue:chat")


class Settings(BaseSettings):
    """Everything that an operator may set; each is also read from `HEADRACE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", frozen=True, extra="ignore")

    nats_url: str = Field(default="", description="nats-server to use, several separated by commas; empty: embedded.")
    nats_sys_url: str = Field(default="", description="The same for the system account, which tells of dead workers.")
    nats_replicas: int = Field(default=1, ge=1, le=5, description="Copies of the log: 1, or 3 on a cluster.")
    max_bytes: int = Field(default=10 << 30, ge=16 << 20, description="The most bytes the log may take on disk.")
    max_jobs: int = Field(default=200_000, ge=1, description="The most jobs kept; each takes 2 KB of memory, or more.")
    max_backlog: int = Field(default=10_000, ge=1, description="The most hand-offs that may wait for one stage.")
    audit_max_bytes: int = Field(default=10 << 30, ge=16 << 20, description="The most bytes the audit log may take.")
    checkpoints: str = Field(default="", description="Folder for signed checkpoints; empty: `audit` in the data.")
    checkpoint_every: float = Field(default=60.0, gt=0, description="How often a checkpoint is signed, seconds.")
    data: Path = Field(default=Path(".headrace"), description="Folder for the log, the prepared model and the logs.")
    host: str = Field(default="127.0.0.1", description="Address that HTTP listens on.")
    cors_origins: str = Field(default="", description="Origins whose pages may use the API, separated by commas.")
    port: int = Field(default=0, ge=0, le=65535, description="Port for HTTP; 0: the first free one from 8000.")
    model: str = Field(default="", description="Folder or hub name of the language model; empty: the small one.")
    index: str = Field(default="", description="File of the index that is searched; empty: `index.db` in the data.")
    egress_allow: str = Field(
        default="", description="Networks that tools and webhooks may reach though not public, separated by commas."
    )
    pipelines: tuple[str, ...] = Field(default=DEFAULT_PIPELINES, description="Pipelines, as MODULE:NAME.")
    gpus: bool = Field(default=False, description="Whether stages that ask for GPUs get them, or run on CPUs.")
    ack_wait: float = Field(default=30.0, gt=0, description="Lease of a hand-off without a sign of progress, seconds.")
    hang_after: float = Field(
        default=60.0, gt=0, description="An engine that works and makes nothing so long hangs, seconds."
    )
    drain: float = Field(default=20.0, ge=1, description="How long a stopping worker may finish its jobs, seconds.")
    deadline: int = Field(default=86_400, ge=1, description="A job's deadline when it names none, seconds.")
    max_deadline: int = Field(default=6 * 86_400, ge=1, description="The longest deadline a job may have, seconds.")

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints of the audit log are signed."""
        return Path(self.checkpoints) if self.checkpoints else self.data / "audit"

    @property
    def index_file(self) -> Path:
        """The index that is searched."""
        return (Path(self.index) if self.index else self.data / "index.db").absolute()

    @property
    def is_loopback(self) -> bool:
        """Whether HTTP can be reached from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def origins(self) -> list[str]:
        return _each(self.cors_origins)

    @property
    def nats_urls(self) -> list[str]:
        return _each(self.nats_url)

    @property
    def nats_sys_urls(self) -> list[str]:
        return _each(self.nats_sys_url)


def _each(urls: str) -> list[str]:
    return [url.strip() for url in urls.split(",") if url.strip()]
