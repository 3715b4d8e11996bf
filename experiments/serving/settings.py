"""Settings of the server: flags first, then the environment, then what stands here."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from experiments.serving.addresses import Network
from experiments.serving.fetch import FetchLimits
from experiments.serving.limits import VideoLimits
from experiments.serving.sandbox import ProcessLimits

_Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What an operator may choose; `FORGERY_PORT=9000` is `--port 9000`.

    Every number is ours, chosen for a machine of a few cores; lists are separated by commas.
    """

    model_config = SettingsConfigDict(env_prefix="FORGERY_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    allowed_hosts: _Words = Field((), description="names under which it is reached, else any")
    state_dir: Path = Field(Path("serve_state"), description="jobs, results and keys")
    machine: str = Field(
        "", pattern="^[a-z0-9]{0,16}$", description="begins job ids, for sticky routing"
    )
    keys: bool | None = Field(
        None, description="ask for API keys: true, false; else unless it listens on loopback"
    )
    rate: str = Field("60/minute", description="new jobs of a key, or of an address without keys")
    read_rate: str = Field("1200/minute", description="other requests of a key or address")
    rate_storage: str = Field("memory://", description="where rates are counted: redis://... too")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    engine: Literal["auto", "torch", "openvino", "bf16"] = Field(
        "auto", description="what runs the networks"
    )
    backend: Literal["mesh", "fan"] = Field("mesh", description="who finds the faces")
    stride: int | None = Field(
        None, ge=1, description="frames between clips, 1 is the official way; else a quarter clip"
    )
    workers: int = Field(
        default_factory=lambda: max(1, (os.cpu_count() or 1) // 2),
        ge=1,
        description="videos that are worked on at once",
    )
    queue: int = Field(16, ge=1, description="jobs that wait at most")
    share: int | None = Field(
        None,
        ge=1,
        description="jobs of a key, or of an address without keys, that wait or run; else half "
        "the queue",
    )
    uploads: int = Field(4, ge=1, description="uploads that are received at once")
    wait_s: float = Field(
        55.0, gt=0, description="seconds that /predict waits before it answers with a job"
    )
    ttl_s: float = Field(3600.0, gt=0, description="seconds that results are kept")
    drain_s: float = Field(60.0, ge=0, description="seconds that running jobs get at the end")
    max_upload_mb: int = Field(512, ge=1, description="largest video in MiB, sent or fetched")
    upload_s: float = Field(600.0, gt=0, description="seconds that an upload may take")
    min_free_mb: int = Field(1024, ge=0, description="free disk in MiB below which none begins")
    fetch_s: float = Field(120.0, gt=0, description="seconds that fetching a URL may take")
    fetch_schemes: _Words = Field(("https",), description="schemes of URLs; http: laboratories")
    fetch_ports: _Words = Field(("443", "8443"), description="ports of URLs")
    fetch_networks: _Words = Field((), description="private networks that URLs may reach: labs")
    max_duration_s: float = Field(7200.0, gt=0, description="longest video in seconds")
    max_frames: int = Field(500_000, ge=1, description="most frames of a video")
    max_side: int = Field(8192, ge=16, description="largest side of a picture in pixels")
    job_memory_mb: int = Field(4096, ge=256, description="memory of a job's process in MiB")
    job_cpu_s: int = Field(7200, ge=1, description="processor time of a job in seconds")
    job_s: float = Field(3600.0, gt=0, description="seconds that a job may take")
    batch_wait_ms: float = Field(10.0, ge=0, description="how long clips wait for other jobs'")
    unconfined: bool = Field(
        False, description="serve although this kernel cannot keep children off the network"
    )

    @field_validator(
        "allowed_hosts", "fetch_schemes", "fetch_ports", "fetch_networks", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(w.strip() for w in value.split(",") if w.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("fetch_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ipaddress.ip_network(text)
        return value

    @field_validator("fetch_schemes")
    @classmethod
    def _schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= {"http", "https"}:
            raise ValueError("takes https and http")
        return value

    @field_validator("fetch_ports")
    @classmethod
    def _ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(v.isdecimal() and 0 < int(v) < 65536 for v in value):
            raise ValueError("takes port numbers")
        return value

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def with_keys(self) -> bool:
        """Whether requests need a key."""
        return not self.on_loopback if self.keys is None else self.keys

    @property
    def jobs_of_client(self) -> int:
        """Jobs of one client that may wait or run, over all replicas of a state folder."""
        return max(1, self.queue // 2) if self.share is None else self.share

    @property
    def max_upload_bytes(self) -> int:
        """Largest video in bytes."""
        return self.max_upload_mb * 2**20

    @property
    def fetch_limits(self) -> FetchLimits:
        """What may be fetched."""
        networks: tuple[Network, ...] = tuple(map(ipaddress.ip_network, self.fetch_networks))
        return FetchLimits(
            schemes=self.fetch_schemes,
            ports=tuple(map(int, self.fetch_ports)),
            max_bytes=self.max_upload_bytes,
            total_s=self.fetch_s,
            allowed=networks,
        )

    @property
    def video_limits(self) -> VideoLimits:
        """What a video may be."""
        return VideoLimits(
            max_duration_s=self.max_duration_s, max_frames=self.max_frames, max_side=self.max_side
        )

    @property
    def process_limits(self) -> ProcessLimits:
        """What a child may use."""
        return ProcessLimits(
            memory_bytes=self.job_memory_mb * 2**20,
            cpu_s=self.job_cpu_s,
            wall_s=self.job_s,
            threads=max(1, (os.cpu_count() or 1) // self.workers),
        )
