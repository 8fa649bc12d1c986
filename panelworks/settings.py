"""The settings: the only place that reads the environment (and a `.env` file)."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from panelworks.errors import Misconfigured
from panelworks.limits import MIB, SourceLimits
from panelworks.text import normalize_encoding

DeviceChoice = Literal["auto", "cuda", "mps", "cpu"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LogFormat = Literal["text", "json"]
ReviewPolicy = Literal["never", "doubtful", "always"]
"""Which pages wait for the approval of a person; see `panelworks/page/review.py`."""
FallbackMethod = Literal["fp32", "tile", "plain", "alternative", "bundled", "lanczos"]
"""A method of the fallback; see `panelworks/page/fallbacks.py`."""
LearnedMetricName = Literal["musiq", "clipiqa+", "topiq_nr", "cnniqa", "niqe", "brisque", "piqe"]
"""A metric of the package pyiqa; see `panelworks/quality/learned.py`."""
S3StorageClass = Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"]
S3Acl = Literal["private", "public-read", "bucket-owner-read", "bucket-owner-full-control"]
MAX_SCALE: Final = 4.0


def _check_scale(value: Any) -> Any:
    """Refuse what is no scale, with one message for both forms.

    Raises:
        ValueError: with the message.
    """
    try:
        if value is None or value == "auto" or 1 <= float(value) <= MAX_SCALE:
            return value if value is None or value == "auto" else float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"it must be 'auto' or a number from 1 to {MAX_SCALE:g}")


Scale = Annotated[
    Literal["auto"] | Annotated[float, Field(ge=1, le=MAX_SCALE)], BeforeValidator(_check_scale)
]
"""Enlargement factor of a page. `auto`: what its largest variant needs, or the target of its book."""
WEIGHT_SUFFIXES: Final = frozenset({".pth", ".pt", ".safetensors", ".param"})
"""Extensions of weight files. `.param` is one file of an ncnn pair."""


def _public_alias(name: str) -> AliasChoices:
    """Accept the public name `NAME` as well as `PANELWORKS_NAME`."""
    return AliasChoices(name, f"PANELWORKS_{name}")


class Settings(SourceLimits):
    """The settings of an installation. The text of each field begins with its environment variable."""

    model_config = SettingsConfigDict(
        env_prefix="PANELWORKS_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    # Buckets and sources
    s3_bucket: str | None = Field(None, validation_alias=_public_alias("S3_BUCKET"))
    """S3_BUCKET: the bucket for delivered pages when neither the request nor PANELWORKS_OUT names a destination."""
    s3_region: str | None = Field(None, validation_alias=_public_alias("S3_REGION"))
    """S3_REGION: region of the bucket. Default: the AWS default chain."""
    s3_endpoint: str | None = Field(None, validation_alias=_public_alias("S3_ENDPOINT"))
    """S3_ENDPOINT: URL of an S3-compatible server (MinIO, moto). Default: AWS."""
    s3_access_key_id: str | None = Field(None, validation_alias=_public_alias("S3_ACCESS_KEY_ID"))
    """S3_ACCESS_KEY_ID: access key. Default: the AWS default chain."""
    s3_secret_access_key: SecretStr | None = Field(
        None, validation_alias=_public_alias("S3_SECRET_ACCESS_KEY")
    )
    """S3_SECRET_ACCESS_KEY: secret key. Default: the AWS default chain."""
    s3_block: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_S3_BLOCK: blocks of Prefect with the credentials of buckets, separated by commas: `s3-bucket/NAME` for its
    bucket, `aws-credentials/NAME` or `minio-credentials/NAME` for all others. Without the latter, the first block applies to all
    other buckets. Default: the S3_* variables."""
    s3_buckets: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_S3_BUCKETS: additional buckets that events and requests may name, separated by commas."""
    source_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """PANELWORKS_SOURCE_ROOTS: folders whose files events and requests may name, separated by `:`."""
    redis_url: str | None = Field(None, validation_alias=_public_alias("REDIS_URL"))
    """REDIS_URL: result cache that machines share. Default: a file under PANELWORKS_CACHE_DIR."""

    # Quality and enlargement
    quality_threshold: float = Field(0.5, ge=0, le=1, validation_alias=_public_alias("QUALITY_THRESHOLD"))
    """QUALITY_THRESHOLD: minimum resolution score of a page that needs no enhancement."""
    technical_threshold: float = Field(0.8, ge=0, le=1)
    """PANELWORKS_TECHNICAL_THRESHOLD: minimum technical score of a page that needs no enhancement."""
    metrics: Annotated[tuple[LearnedMetricName, ...], NoDecode] = ()
    """PANELWORKS_METRICS: metrics of pyiqa to show in addition to the built-in scores, separated by commas. Needs the
    extra `iqa`."""
    target_score: float = Field(0.0, ge=0, le=1)
    """PANELWORKS_TARGET_SCORE: overall score that an enhanced page should reach. Below it the fallbacks run and
    the best result is delivered with a note."""
    fallbacks: Annotated[tuple[FallbackMethod, ...], NoDecode] = get_args(FallbackMethod)
    """PANELWORKS_FALLBACKS: methods to try, in this order, when a result fails validation, separated by commas; or
    `none`."""
    review: ReviewPolicy = "never"
    """PANELWORKS_REVIEW: which pages wait under `review/` for the approval of a person: `never`, `always`, or `doubtful` (the
    original was kept, a fallback was used, or the score is below PANELWORKS_TARGET_SCORE)."""
    upscale_scale: Scale = Field("auto", validation_alias=_public_alias("UPSCALE_SCALE"))
    """UPSCALE_SCALE: scale of requests that specify none, from 1 to 4, or `auto`: what the largest variant needs."""
    device: DeviceChoice = Field("auto", validation_alias=_public_alias("DEVICE"))
    """DEVICE: device for networks. `auto` selects cuda, then mps, then cpu."""
    model_path: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), validation_alias=_public_alias("MODEL_PATH")
    )
    """MODEL_PATH: weight files, and folders to search for weight files before a download, separated by `:`. The first
    weight file is the default network for upscaling."""
    log_level: LogLevel = Field("INFO", validation_alias=_public_alias("LOG_LEVEL"))
    """LOG_LEVEL: DEBUG, INFO, WARNING or ERROR."""
    log_format: LogFormat = Field("text", validation_alias=_public_alias("LOG_FORMAT"))
    """LOG_FORMAT: `text`, or `json` for one JSON object a line with the ids of trace, job and run."""
    otlp_endpoint: str | None = Field(None, validation_alias=_public_alias("OTEL_EXPORTER_OTLP_ENDPOINT"))
    """OTEL_EXPORTER_OTLP_ENDPOINT: URL of an OpenTelemetry collector that receives traces and metrics by HTTP, such as
    http://127.0.0.1:4318. Needs the extra `otel`. Default: nothing is traced."""

    # Storage, cache and locks
    cache_dir: Path = Field(default_factory=lambda: Path.home() / ".cache" / "panelworks")
    """PANELWORKS_CACHE_DIR: folder of downloaded weights, the embedded cache, the ledger and the local store."""
    store: str | None = None
    """PANELWORKS_STORE: folder or `s3://bucket/prefix` of working objects. Default: under PANELWORKS_CACHE_DIR."""
    store_bytes: int = Field(20 * 1024 * MIB, ge=0)
    """PANELWORKS_STORE_BYTES: maximum size of a local store. A backfill deletes the oldest objects when it starts.
    For a bucket, use its lifecycle rules."""
    ledger: str | None = None
    """PANELWORKS_LEDGER: folder or `s3://bucket/prefix` of the ledger, shared by all workers. Default: under
    PANELWORKS_CACHE_DIR."""
    out: str | None = None
    """PANELWORKS_OUT: destination of pages when a request names none. Default: S3_BUCKET."""
    library: str | None = None
    """PANELWORKS_LIBRARY: folder or `s3://bucket/prefix` of the books that the studio lists and starts backfills from."""
    library_out: str | None = None
    """PANELWORKS_LIBRARY_OUT: folder or `s3://bucket/prefix` of its finished books. Default: `books` in PANELWORKS_OUT."""
    cache_ttl_seconds: int = Field(30 * 24 * 3600, ge=1)
    """PANELWORKS_CACHE_TTL_SECONDS: lifetime of a result in the cache."""
    cache_bytes: int = Field(256 * MIB, ge=1)
    """PANELWORKS_CACHE_BYTES: maximum size of the cache. The oldest entries are removed first."""
    cache_variant_bytes: int = Field(512 * 1024, ge=0)
    """PANELWORKS_CACHE_VARIANT_BYTES: variants up to this size are also stored in the cache."""
    lease_seconds: float = Field(30, ge=1)
    """PANELWORKS_LEASE_SECONDS: how long a page stays reserved after the process that computes it crashed."""
    lease_patience_seconds: float = Field(3600, ge=0)
    """PANELWORKS_LEASE_PATIENCE_SECONDS: how long to wait for another process that computes the same page."""
    gpu_limit: str | None = None
    """PANELWORKS_GPU_LIMIT: Prefect concurrency limit that a flow holds while a network runs; see `panelworks up`."""
    gpu_limit_shared: bool = True
    """PANELWORKS_GPU_LIMIT_SHARED: other machines use the limit, too. If not, the slot is kept for the next page, for a
    minute at most, which saves three requests a page. `up` sets it."""
    callback_secret: SecretStr | None = None
    """PANELWORKS_CALLBACK_SECRET: key that signs webhook callbacks (HMAC-SHA256). The supervisor delivers them."""

    # Gateway
    api_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_API_KEYS: `name:sha256` of each key of the gateway, separated by commas; see `panelworks keys new`."""
    gateway_url: str | None = None
    """PANELWORKS_GATEWAY_URL: URL of the gateway for browsers, used for links in the Prefect UI. `up` sets it."""
    server_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_SERVER_HOSTS: host names, in addition to loopback, of the API that `up` or `panelworks server` starts,
    separated by commas. Requests with other host names are rejected."""
    rate_limit: str = "1200/minute"
    """PANELWORKS_RATE_LIMIT: maximum rate of requests for each key, or for each address if no keys are set."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_CORS_ORIGINS: origins of web pages that may call the gateway, separated by commas. Default: none."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """PANELWORKS_TRUSTED_PROXIES: addresses of proxies in front of the gateway, separated by commas. Their
    X-Forwarded-For and X-Forwarded-Proto are trusted. Default: none."""
    max_upload_bytes: int = Field(256 * MIB, ge=1)
    """PANELWORKS_MAX_UPLOAD_BYTES: maximum size of the body of a request to the gateway."""
    max_batch_rows: int = Field(10_000, ge=1)
    """PANELWORKS_MAX_BATCH_ROWS: maximum number of pages in a batch."""
    slow_request_seconds: float = Field(30, gt=0)
    """PANELWORKS_SLOW_REQUEST_SECONDS: how long the headers of a request to the gateway may take to arrive, and how far
    its body may fall behind 16 KiB a second."""
    enable_metrics: bool = Field(False, validation_alias=_public_alias("ENABLE_METRICS"))
    """ENABLE_METRICS: also serve the gateway's metrics on METRICS_PORT, for a scraper without a key."""
    metrics_port: int = Field(9091, ge=1, le=65535, validation_alias=_public_alias("METRICS_PORT"))
    """METRICS_PORT: port of the metrics."""

    # Networks and devices
    offline: bool = False
    """PANELWORKS_OFFLINE: do not download weights. Without the 4x network's file, the bundled network runs twice for
    scales above 2."""
    threads: int = Field(0, ge=0)
    """PANELWORKS_THREADS: CPU threads for networks. 0: the runtime chooses."""
    tile: int | None = Field(None, ge=32, le=4096)
    """PANELWORKS_TILE: side of a tile in source pixels, without its margins. Default: computed from memory and CPU
    caches."""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """PANELWORKS_RUNTIME: runtime for networks. `auto` selects OpenVINO on a CPU if it supports the network."""
    gpu_patience_seconds: float = Field(60, ge=0)
    """PANELWORKS_GPU_PATIENCE_SECONDS: how long a page waits for GPU memory held by other processes if even small
    tiles do not fit. After that it uses the CPU."""
    compile_models: bool = False
    """PANELWORKS_COMPILE_MODELS: compile networks with torch. The start takes minutes longer, each page is faster."""
    keep_models_seconds: float = Field(300, ge=0)
    """PANELWORKS_KEEP_MODELS_SECONDS: how long an unused network stays in memory. 0: it is freed after each request."""
    keep_models_bytes: int = Field(4 * 1024 * MIB, ge=0)
    """PANELWORKS_KEEP_MODELS_BYTES: maximum memory of unused networks. The least recently used are freed first."""
    providers: Path | None = None
    """PANELWORKS_PROVIDERS: a YAML file that assigns a provider to each action; see docs/how-to/providers.md."""
    rules: Path | None = None
    """PANELWORKS_RULES: a YAML file with the treatment of pages by type, size and origin; see docs/how-to/rules.md. Default:
    the built-in rules."""
    presets: Path | None = None
    """PANELWORKS_PRESETS: a JSON file with own presets, an object of lists of variants; see docs/how-to/variants.md."""

    # Books and cost
    book_threads: int = Field(3, ge=1, le=64)
    """PANELWORKS_BOOK_THREADS: pages of a book that are processed at the same time. One uses the network, the others
    are in stages before or after it."""
    gpu_price_per_hour: float = Field(0.0, ge=0)
    """PANELWORKS_GPU_PRICE_PER_HOUR: price of this machine's device in US dollars an hour. 0: use PANELWORKS_PRICES."""
    pool: str | None = None
    """PANELWORKS_POOL: the work pool that this machine serves, for cost records."""
    prices: Annotated[tuple[tuple[str, NonNegativeFloat], ...], NoDecode] = ()
    """PANELWORKS_PRICES: price of a device in US dollars an hour for each work pool: `runpod=0.43,ecs=0.8`."""
    budget_per_day: float | None = Field(None, gt=0)
    """PANELWORKS_BUDGET_PER_DAY: maximum cost of pages in US dollars a day (UTC). After that no new work starts until
    the next day."""

    # Delivery to the web
    s3_encryption: Literal["AES256", "aws:kms"] | None = None
    """PANELWORKS_S3_ENCRYPTION: server-side encryption of all objects that are written. Default: that of the bucket."""
    s3_kms_key: str | None = None
    """PANELWORKS_S3_KMS_KEY: key of AWS KMS for `aws:kms`: its id, ARN or alias. Default: the key of AWS for S3."""
    s3_storage_class: S3StorageClass | None = None
    """PANELWORKS_S3_STORAGE_CLASS: storage class of published pages and books. Default: STANDARD."""
    s3_acl: S3Acl | None = None
    """PANELWORKS_S3_ACL: ACL of published pages and books, for buckets that allow ACLs. Default: none is sent."""
    licence: str | None = Field(None, max_length=150)
    """PANELWORKS_LICENCE: the metadata `licence` of published objects in a bucket."""
    public_url: str | None = None
    """PANELWORKS_PUBLIC_URL: URL of the CDN whose root is PANELWORKS_OUT. Results, events and callbacks contain its addresses."""
    links: Literal["none", "gateway", "s3"] = "none"
    """PANELWORKS_LINKS: signed links in the answers of jobs: of the gateway, or presigned ones of the bucket."""
    link_secrets: Annotated[tuple[Annotated[SecretStr, Field(min_length=32)], ...], NoDecode] = ()
    """PANELWORKS_LINK_SECRETS: keys of 32 characters or more, separated by commas. The first signs links, all verify them."""
    link_seconds: int = Field(3600, ge=1, le=604_800)
    """PANELWORKS_LINK_SECONDS: how long a signed link works."""
    purge_url: str | None = None
    """PANELWORKS_PURGE_URL: receives a signed POST when a published object is replaced. Needs PANELWORKS_CALLBACK_SECRET."""
    cloudfront_distribution: str | None = None
    """PANELWORKS_CLOUDFRONT_DISTRIBUTION: id of the CloudFront distribution in which replaced objects are invalidated."""

    @field_validator("model_path", "source_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(":") if part)
        return value

    @field_validator(
        "s3_block",
        "s3_buckets",
        "server_hosts",
        "api_keys",
        "cors_origins",
        "trusted_proxies",
        "link_secrets",
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
    def _normalize_encoding(cls, value: str | None) -> str | None:
        return normalize_encoding(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _to_upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _to_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("redis_url", "s3_endpoint", "otlp_endpoint", "public_url", "purge_url")
    @classmethod
    def _check_scheme(cls, value: str | None, info: ValidationInfo) -> str | None:
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
        """The first weight file in MODEL_PATH; the network for requests that name no model."""
        return next((path for path in self.model_path if path.suffix.lower() in WEIGHT_SUFFIXES), None)

    def weight_files(self, name: str) -> list[Path]:
        """Paths to search for a weight file of this name, in order."""
        named = [path if path.name == name else path / name for path in self.model_path]
        return [*named, self.weights_dir / name]

    def make_cache_dir(self) -> Path:
        """Create the cache folder with no access for other users. An existing folder keeps its mode."""
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
        """Destination of pages when a request names none."""
        return self.out or (f"s3://{self.s3_bucket}" if self.s3_bucket else "enhanced")

    @property
    def allowed_buckets(self) -> frozenset[str]:
        """Buckets that events and requests may name: those in the settings."""
        places = (f"s3://{self.s3_bucket or ''}", self.default_out)
        ours = {
            place.removeprefix("s3://").partition("/")[0] for place in places if place.startswith("s3://")
        }
        return frozenset(ours | set(self.s3_buckets)) - {""}

    @property
    def finished_library(self) -> str:
        """Where the finished books of the library go."""
        return self.library_out or f"{self.default_out.rstrip('/')}/books"

    @property
    def ledger_location(self) -> str:
        """Folder or `s3://` address of the ledger's Parquet files."""
        return self.ledger or str(self.cache_dir / "ledger")

    @property
    def private_places(self) -> tuple[str, ...]:
        """Folders and `s3://` addresses with the data of all callers: store, ledger, cache."""
        return self.store_location, self.ledger_location, str(self.cache_dir)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Read the settings of this process once and return them.

    Raises:
        Misconfigured: `bad_setting`, a variable has an invalid value. The message names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{_variable_of(str(one['loc'][0]))}: {one['msg']}" for one in error.errors()]
        raise Misconfigured("bad_setting", f"Invalid settings: {'; '.join(faults)}.") from None


def _variable_of(location: str) -> str:
    """The environment variable for the first part of a validation error's location."""
    if location in Settings.model_fields:
        return f"{Settings.model_config['env_prefix']}{location.upper()}"
    return location


_CHILD_VARIABLE_NAMES = frozenset(
    {"PATH", "LIBARCHIVE", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ"}
)  # fmt: skip
"""Environment variables that a child process inherits when it parses untrusted files: library paths, no secrets."""


def child_variables() -> dict[str, str]:
    """Return the environment for a child process that parses untrusted files: UTF-8, one thread per library, no
    secrets."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _CHILD_VARIABLE_NAMES or name.startswith("DYLD_")
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**passed, **threads, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
