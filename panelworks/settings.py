"""The settings: the only place that reads the environment (and a `.env` file)."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import (
    AliasChoices,
    Field,
    NonNegativeFloat,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from panelworks.errors import Misconfigured
from panelworks.names import known_encoding

DeviceChoice = Literal["auto", "cuda", "mps", "cpu"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
FallbackWay = Literal["fp32", "tile", "plain", "alternative", "bundled", "lanczos"]
"""A way of the fallback; see `panelworks/page/fallbacks.py`."""
LearnedMetricName = Literal["musiq", "clipiqa+", "topiq_nr", "cnniqa", "niqe", "brisque", "piqe"]
"""A metric of the package pyiqa; see `panelworks/quality/learned.py`."""
MIB = 1024 * 1024
WEIGHT_SUFFIXES: Final = frozenset({".pth", ".pt", ".safetensors", ".param"})
"""Extensions of weight files; `.param` is one of a pair of ncnn files."""


def _named(name: str) -> AliasChoices:
    """Accept the public name `NAME` as well as `PANELWORKS_NAME`."""
    return AliasChoices(name, f"PANELWORKS_{name}")


class Settings(BaseSettings):
    """What an installation can choose. Every field may be set by the variable named beside it."""

    model_config = SettingsConfigDict(
        env_prefix="PANELWORKS_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    s3_bucket: str | None = Field(None, validation_alias=_named("S3_BUCKET"))
    """S3_BUCKET: the bucket that pages are delivered to when neither a request nor PANELWORKS_OUT names a place."""
    s3_region: str | None = Field(None, validation_alias=_named("S3_REGION"))
    """S3_REGION: region of the bucket; else the AWS default chain."""
    s3_endpoint: str | None = Field(None, validation_alias=_named("S3_ENDPOINT"))
    """S3_ENDPOINT: URL of an S3-compatible server (MinIO, moto); else AWS."""
    s3_access_key_id: str | None = Field(None, validation_alias=_named("S3_ACCESS_KEY_ID"))
    """S3_ACCESS_KEY_ID: access key; else the AWS default chain."""
    s3_secret_access_key: SecretStr | None = Field(None, validation_alias=_named("S3_SECRET_ACCESS_KEY"))
    """S3_SECRET_ACCESS_KEY: secret key; else the AWS default chain."""
    s3_buckets: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_S3_BUCKETS: further buckets that events and requests may name, separated by commas."""
    source_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """PANELWORKS_SOURCE_ROOTS: folders whose files events and requests may name, separated by `:`."""
    redis_url: str | None = Field(None, validation_alias=_named("REDIS_URL"))
    """REDIS_URL: result cache shared by machines; else a file under `cache_dir`."""

    quality_threshold: float = Field(0.5, ge=0, le=1, validation_alias=_named("QUALITY_THRESHOLD"))
    """QUALITY_THRESHOLD: resolution score from which a page may count as good."""
    technical_threshold: float = Field(0.8, ge=0, le=1)
    """PANELWORKS_TECHNICAL_THRESHOLD: technical score from which a page may count as good."""
    metrics: Annotated[tuple[LearnedMetricName, ...], NoDecode] = ()
    """PANELWORKS_METRICS: metrics of pyiqa shown beside our own scores, separated by commas; needs the extra `iqa`."""
    target_score: float = Field(0.0, ge=0, le=1)
    """PANELWORKS_TARGET_SCORE: overall score that an enhanced page should reach. Below it the fallback
    is tried, and the best result is kept, with a note."""
    fallbacks: Annotated[tuple[FallbackWay, ...], NoDecode] = get_args(FallbackWay)
    """PANELWORKS_FALLBACKS: what is tried, in this order, when a plan fails validation, separated by commas; or `none`."""
    upscale_scale: float = Field(2.0, ge=1, le=4, validation_alias=_named("UPSCALE_SCALE"))
    """UPSCALE_SCALE: enlargement when a request names none."""
    device: DeviceChoice = Field("auto", validation_alias=_named("DEVICE"))
    """DEVICE: where networks run; `auto` takes cuda, then mps, then cpu."""
    model_path: Annotated[tuple[Path, ...], NoDecode] = Field((), validation_alias=_named("MODEL_PATH"))
    """MODEL_PATH: folders searched for weight files before any download, and weight files, separated by `:`. The first
    weight file that is named is the default network for enlarging."""
    log_level: LogLevel = Field("INFO", validation_alias=_named("LOG_LEVEL"))
    """LOG_LEVEL: DEBUG, INFO, WARNING or ERROR."""

    cache_dir: Path = Field(default_factory=lambda: Path.home() / ".cache" / "panelworks")
    """PANELWORKS_CACHE_DIR: downloaded weights, the embedded cache, the ledger, the local store."""
    store: str | None = None
    """PANELWORKS_STORE: working objects: a folder or `s3://bucket/prefix`; else under `cache_dir`."""
    store_bytes: int = Field(20 * 1024 * MIB, ge=0)
    """PANELWORKS_STORE_BYTES: most working objects in a local store; the oldest go first, at the start of a backfill.
    A bucket has lifecycle rules of its own."""
    ledger: str | None = None
    """PANELWORKS_LEDGER: the ledger: a folder or `s3://bucket/prefix` that all workers share; else under `cache_dir`."""
    out: str | None = None
    """PANELWORKS_OUT: where pages are delivered when a request names no place; else S3_BUCKET."""
    cache_ttl_seconds: int = Field(30 * 24 * 3600, ge=1)
    """PANELWORKS_CACHE_TTL_SECONDS: how long a result stays in the cache."""
    cache_bytes: int = Field(256 * MIB, ge=1)
    """PANELWORKS_CACHE_BYTES: largest cache; the oldest entries go first."""
    cache_variant_bytes: int = Field(512 * 1024, ge=0)
    """PANELWORKS_CACHE_VARIANT_BYTES: variants up to this size lie in the cache as well as in the store."""
    lease_seconds: float = Field(30, ge=1)
    """PANELWORKS_LEASE_SECONDS: after a crash, how long a page stays reserved for the one that died."""
    lease_patience_seconds: float = Field(3600, ge=0)
    """PANELWORKS_LEASE_PATIENCE_SECONDS: how long to wait for another who computes the same page."""
    gpu_limit: str | None = None
    """PANELWORKS_GPU_LIMIT: Prefect concurrency limit that a flow holds while a network runs; see `panelworks up`."""
    callback_secret: SecretStr | None = None
    """PANELWORKS_CALLBACK_SECRET: signs webhook callbacks (HMAC-SHA256), which the gateway delivers."""

    api_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_API_KEYS: `name:sha256` of each key of the gateway, separated by commas; see `panelworks keys new`."""
    gateway_url: str | None = None
    """PANELWORKS_GATEWAY_URL: where browsers reach the gateway, for links in the Prefect UI; `up` sets it."""
    server_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_SERVER_HOSTS: names, besides loopback, under which the API that `up` or `panelworks server` starts is
    called, separated by commas; requests under other names are refused."""
    rate_limit: str = "1200/minute"
    """PANELWORKS_RATE_LIMIT: requests of one key, or of one address where there are no keys."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_CORS_ORIGINS: web pages that may call the gateway, separated by commas; none by default."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_TRUSTED_PROXIES: addresses of proxies in front of the gateway, separated by commas, whose X-Forwarded-For
    and X-Forwarded-Proto are believed; none by default."""
    max_upload_bytes: int = Field(256 * MIB, ge=1)
    """PANELWORKS_MAX_UPLOAD_BYTES: largest body of one request to the gateway."""
    slow_request_seconds: float = Field(30, gt=0)
    """PANELWORKS_SLOW_REQUEST_SECONDS: how long the headers of a request to the gateway may take, and how far its body may
    fall behind 16 KiB a second."""
    enable_metrics: bool = Field(False, validation_alias=_named("ENABLE_METRICS"))
    """ENABLE_METRICS: serve the gateway's metrics on METRICS_PORT too, for a scraper without a key."""
    metrics_port: int = Field(9091, ge=1, le=65535, validation_alias=_named("METRICS_PORT"))
    """METRICS_PORT: where."""

    offline: bool = False
    """PANELWORKS_OFFLINE: download no weights. Above 2x the bundled network runs twice where the 4x network's file is
    not on this machine."""
    threads: int = Field(0, ge=0)
    """PANELWORKS_THREADS: CPU threads for networks; 0 lets the runtime choose."""
    tile: int | None = Field(None, ge=32, le=4096)
    """PANELWORKS_TILE: side of a tile in source pixels, without its margins; else what memory and caches suggest."""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """PANELWORKS_RUNTIME: what runs networks; `auto` takes OpenVINO on a CPU where it knows the network."""
    gpu_patience_seconds: float = Field(60, ge=0)
    """PANELWORKS_GPU_PATIENCE_SECONDS: how long a page waits for GPU memory that other processes hold, when even small
    tiles do not fit, before it goes on with the CPU."""
    compile_models: bool = False
    """PANELWORKS_COMPILE_MODELS: let torch compile networks: minutes at the start, faster after."""
    keep_models_seconds: float = Field(300, ge=0)
    """PANELWORKS_KEEP_MODELS_SECONDS: how long an unused network stays in memory; 0 frees it after each request."""
    keep_models_bytes: int = Field(4 * 1024 * MIB, ge=0)
    """PANELWORKS_KEEP_MODELS_BYTES: most memory of networks that nobody uses; the longest unused go first."""
    providers: Path | None = None
    """PANELWORKS_PROVIDERS: a YAML file that says what performs which action; see docs/how-to/providers.md."""

    book_threads: int = Field(3, ge=1, le=64)
    """PANELWORKS_BOOK_THREADS: pages of a book in work at the same time: one at the network, others before and behind it."""
    gpu_price_per_hour: float = Field(0.0, ge=0)
    """PANELWORKS_GPU_PRICE_PER_HOUR: US dollars that an hour of this machine's device costs; 0: as PANELWORKS_PRICES says."""
    pool: str | None = None
    """PANELWORKS_POOL: the work pool that this machine serves, for what is recorded of cost."""
    prices: Annotated[tuple[tuple[str, NonNegativeFloat], ...], NoDecode] = ()
    """PANELWORKS_PRICES: US dollars an hour of a device by work pool: `runpod=0.43,ecs=0.8`."""
    budget_per_day: float | None = Field(None, gt=0)
    """PANELWORKS_BUDGET_PER_DAY: US dollars that pages may cost in a day (UTC); then no new work is taken until the next."""

    max_source_bytes: int = Field(50 * MIB, ge=1)
    """PANELWORKS_MAX_SOURCE_BYTES: largest source file."""
    max_pixels: int = Field(200_000_000, ge=1)
    """PANELWORKS_MAX_PIXELS: largest source picture, width times height."""
    max_output_pixels: int = Field(400_000_000, ge=1)
    """PANELWORKS_MAX_OUTPUT_PIXELS: largest enhanced picture, width times height."""
    max_frames: int = Field(64, ge=1)
    """PANELWORKS_MAX_FRAMES: most frames of an animation (the first one is enhanced)."""
    max_archive_entries: int = Field(15_000, ge=1)
    """PANELWORKS_MAX_ARCHIVE_ENTRIES: most files in a book."""
    max_archive_bytes: int = Field(8 * 1024 * MIB, ge=1)
    """PANELWORKS_MAX_ARCHIVE_BYTES: largest book, unpacked; each file of it is bounded by PANELWORKS_MAX_SOURCE_BYTES."""
    max_archive_ratio: int = Field(300, ge=1)
    """PANELWORKS_MAX_ARCHIVE_RATIO: how many times a packed file may grow, once it is larger than 16 MiB."""
    name_encoding: str | None = None
    """PANELWORKS_NAME_ENCODING: encoding of member names that state none, such as cp932; empty decides by the names."""
    pdf_dpi: int = Field(300, ge=36, le=1200)
    """PANELWORKS_PDF_DPI: resolution at which a PDF page is rendered that is not one image."""
    parser_memory_bytes: int = Field(1_500_000_000, ge=256_000_000)
    """PANELWORKS_PARSER_MEMORY_BYTES: most memory of a child process that parses an untrusted file."""
    document_seconds: float = Field(60, gt=0)
    """PANELWORKS_DOCUMENT_SECONDS: longest time to open a document and list its pages."""
    document_page_seconds: float = Field(30, gt=0)
    """PANELWORKS_DOCUMENT_PAGE_SECONDS: longest time to read or render one page of a document."""
    picture_cache_bytes: int = Field(256 * MIB, ge=0)
    """PANELWORKS_PICTURE_CACHE_BYTES: decoded pictures kept in memory between stages."""
    max_redirects: int = Field(5, ge=0)
    """PANELWORKS_MAX_REDIRECTS: redirects followed; each target is checked again."""
    fetch_timeout_seconds: float = Field(30, gt=0)
    """PANELWORKS_FETCH_TIMEOUT_SECONDS: longest wait for a server's next bytes."""
    fetch_deadline_seconds: float = Field(300, gt=0)
    """PANELWORKS_FETCH_DEADLINE_SECONDS: longest time for one whole file."""
    allow_private_addresses: bool = False
    """PANELWORKS_ALLOW_PRIVATE_ADDRESSES: fetch from private and loopback addresses too."""
    allow_http: bool = False
    """PANELWORKS_ALLOW_HTTP: fetch over plain http too."""

    @field_validator("model_path", "source_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(":") if part)
        return value

    @field_validator(
        "s3_buckets",
        "server_hosts",
        "api_keys",
        "cors_origins",
        "trusted_proxies",
        "fallbacks",
        "metrics",
        mode="before",
    )
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip() not in ("", "none"))
        return value

    @field_validator("prices", mode="before")
    @classmethod
    def _split_prices(cls, value: object) -> object:
        if isinstance(value, str):
            pairs = (part.partition("=") for part in value.split(",") if part.strip())
            return tuple((pool.strip(), price.strip()) for pool, _, price in pairs)
        return value

    @field_validator("name_encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        return known_encoding(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("redis_url", "s3_endpoint")
    @classmethod
    def _with_scheme(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = (
            ("redis://", "rediss://", "unix://")
            if info.field_name == "redis_url"
            else ("http://", "https://")
        )
        if value is not None and not value.startswith(schemes):
            raise ValueError(f"it must begin with one of {', '.join(schemes)}")
        return value

    @property
    def default_network(self) -> Path | None:
        """The weight file that MODEL_PATH names, for pages whose request names no model."""
        return next((path for path in self.model_path if path.suffix.lower() in WEIGHT_SUFFIXES), None)

    def weight_files(self, name: str) -> list[Path]:
        """Where a weight file of this name may lie, in the order of the search."""
        named = [path if path.name == name else path / name for path in self.model_path]
        return [*named, self.weights_dir / name]

    def make_cache_dir(self) -> Path:
        """Create the cache folder, closed to other users; an existing one keeps the mode that its owner gave it."""
        self.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.cache_dir

    @property
    def weights_dir(self) -> Path:
        """Folder of downloaded weights."""
        return self.cache_dir / "models"

    @property
    def store_location(self) -> str:
        """Folder or `s3://` address of the working objects."""
        return self.store or str(self.cache_dir / "store")

    @property
    def default_out(self) -> str:
        """Where pages are delivered when a request names no place."""
        return self.out or (f"s3://{self.s3_bucket}" if self.s3_bucket else "enhanced")

    @property
    def allowed_buckets(self) -> frozenset[str]:
        """Buckets that events and requests may name: the configured ones."""
        places = (f"s3://{self.s3_bucket or ''}", self.default_out)
        ours = {
            place.removeprefix("s3://").partition("/")[0] for place in places if place.startswith("s3://")
        }
        return frozenset(ours | set(self.s3_buckets)) - {""}

    @property
    def ledger_location(self) -> str:
        """Folder or `s3://` address of the ledger's Parquet files."""
        return self.ledger or str(self.cache_dir / "ledger")

    @property
    def private_places(self) -> tuple[str, ...]:
        """Folders and `s3://` addresses that hold the work of every caller: store, ledger, cache."""
        return self.store_location, self.ledger_location, str(self.cache_dir)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        Misconfigured: a variable holds a value that does not fit; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{_variable_of(str(one['loc'][0]))}: {one['msg']}" for one in error.errors()]
        raise Misconfigured("bad_setting", f"These settings cannot be used: {'; '.join(faults)}.") from None


def _variable_of(location: str) -> str:
    """The environment variable behind the first part of a validation error's location."""
    if location in Settings.model_fields:
        return f"{Settings.model_config['env_prefix']}{location.upper()}"
    return location


_CHILD_VARIABLES = frozenset(
    {"PATH", "LIBARCHIVE", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ"}
)  # fmt: skip
"""What a child that parses untrusted files gets of the environment: where libraries lie, and no secrets."""


def child_variables() -> dict[str, str]:
    """The environment variables of a child process that parses untrusted files: UTF-8, one thread a library, no secrets."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _CHILD_VARIABLES or name.startswith("DYLD_")
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**passed, **threads, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
