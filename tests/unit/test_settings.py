"""Settings: where they come from, what wins, and what an operator reads when one is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from service.configuration import (
    ConfigurationError,
    environment_names,
    load_mappings,
    load_settings,
    read_mapping_files,
    settings_fields,
)
from service.credentials import BackendServicesAuth, BasicAuth, BearerAuth, ClientSecretAuth, NoAuth
from service.settings import FhirDestination, Kafka, KafkaDestination, Settings, Source, Store, Topic

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "deploy" / "ipt-bridge.example.toml"
SECRET = "correct-horse-battery"  # noqa: S105 - made up, to look for in messages


@pytest.fixture(autouse=True)
def clean_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder, without any setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Write text as ipt-bridge.toml and return its path."""

    def write(text: str) -> Path:
        file = tmp_path / "ipt-bridge.toml"
        file.write_text(text)
        return file

    return write


def _problem(file: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(file)
    return str(raised.value)


def test_everything_has_a_default_that_works_on_one_machine() -> None:
    """Without file and environment, the service reads one source and publishes to one topic."""
    settings = load_settings()

    assert Settings() == settings
    assert ("127.0.0.1:9092",) == settings.kafka.bootstrap
    assert [Source(id="main")] == list(settings.sources)
    assert [KafkaDestination(kind="kafka", name="kafka", topic="ipt.careplan")] == list(settings.destinations)


def test_a_value_built_in_code_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load_settings` looks outside."""
    monkeypatch.setenv("IPT_HTTP__PORT", "9999")

    assert 8080 == Settings().http.port


def test_the_file_in_the_working_folder_is_found(written: Callable[[str], Path]) -> None:
    """./ipt-bridge.toml is read without being named."""
    written("[http]\nport = 9000\n")

    assert 9000 == load_settings().http.port


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IPT_CONFIG wins over the file in the working folder."""
    (tmp_path / "other.toml").write_text("[http]\nport = 9001\n")
    monkeypatch.setenv("IPT_CONFIG", "other.toml")

    assert 9001 == load_settings().http.port


def test_environment_wins_over_secret_over_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: Callable[[str], Path]
) -> None:
    """The most deliberate place decides, and the others still count for what it leaves open."""
    written('[store]\nurl = "postgresql://ipt@db/ipt"\npassword = "file"\n[kafka]\ngroup_id = "file"\nbatch_size = 7\n')
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "IPT_STORE__PASSWORD").write_text("secret\n")
    (tmp_path / "secrets" / "another-service").write_text("not ours")
    monkeypatch.setenv("IPT_SECRETS_DIR", "secrets")
    monkeypatch.setenv("IPT_KAFKA__GROUP_ID", "environment")

    settings = load_settings()

    assert SecretStr("secret") == settings.store.password
    assert ("environment", 7) == (settings.kafka.group_id, settings.kafka.batch_size)


def test_brokers_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every Kafka client writes them."""
    monkeypatch.setenv("IPT_KAFKA__BOOTSTRAP", "kafka-1:9092, kafka-2:9092")

    assert ("kafka-1:9092", "kafka-2:9092") == load_settings().kafka.bootstrap


def test_lists_of_tables_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and destinations need no file."""
    monkeypatch.setenv("IPT_SOURCES", '[{"id": "north", "topics": ["north.events"], "time_zone": "Europe/Oslo"}]')
    monkeypatch.setenv("IPT_DESTINATIONS", '[{"kind": "fhir", "base": "https://ehr.example/fhir/"}]')

    settings = load_settings()

    expected = Source(id="north", topics=(Topic(name="north.events"),), time_zone=ZoneInfo("Europe/Oslo"))
    assert (expected,) == settings.sources
    assert (FhirDestination(kind="fhir", base="https://ehr.example/fhir"),) == settings.destinations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[kafka]\nbootstrp = 1\n", "{file}, kafka.bootstrp: no such setting. Is bootstrap meant?"),
        ("[kafak]\n", "{file}, kafak: no such setting. Is kafka meant?"),
        ("[[sources]]\nzone = 'UTC'\n", "{file}, sources[0].zone: no such setting. Is time_zone meant?"),
        ("[[sources]]\ntime_zone = 'Mars/Olympus'\n", "{file}, sources[0].time_zone: invalid timezone: Mars/Olympus."),
        (
            "[[destinations]]\nkind = 'kafka'\ntopics = 'x'\n",
            "{file}, destinations[0].topics: no such setting. Is topic meant?",
        ),
        ("[[destinations]]\nkind = 'fhir'\n", "{file}, destinations[0].base: field required."),
        ("[kafka]\nbootstrap = 'kafka'\n", "{file}, kafka.bootstrap[0]: each broker is written host:port."),
        ("[kafka]\nbootstrap = []\n", "{file}, kafka.bootstrap: value should have at least 1 item after validation"),
        ("[http]\nport = 70000\n", "{file}, http.port: input should be less than or equal to 65535."),
        (
            "[kafka]\nsecurity_protocol = 'SASL_SSL'\n",
            "{file}, kafka: SASL_SSL by SCRAM-SHA-512 needs sasl_username and sasl_password.",
        ),
        (
            "[kafka]\nsecurity_protocol = 'SASL_SSL'\nsasl_mechanism = 'OAUTHBEARER'\nsasl_oauth_client_id = 'c'\n",
            "{file}, kafka: SASL_SSL by OAUTHBEARER needs sasl_oauth_token_endpoint and sasl_oauth_client_secret.",
        ),
        (
            "[[destinations]]\nkind='fhir'\nbase='http://e'\nauth={kind='backend-services',client_id='c',scopes=['s']}\n",
            "{file}, destinations[0].auth.keys_file: field required.",
        ),
        (
            "[[sources]]\nauth = { kind = 'bearer', token = 't' }\n",
            "{file}, sources[0]: auth is for the server at fhir_base: set that too.",
        ),
        (
            "[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\nauth = { kind = 'basic', username = 'u' }\n",
            "{file}, destinations[0].auth: set the secret password, or password_file, and not both.",
        ),
        (
            "[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\nauth = { kind = 'bearer', tokn = 'u' }\n",
            "{file}, destinations[0].auth.tokn: no such setting. Is token meant?",
        ),
        (
            "[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\nauth = { kind = 'bearer', token_file = 'none' }\n",
            "{file}, destinations[0].auth.token_file: path does not point to a file.",
        ),
        ("[kafka]\nca_file = 'none.pem'\n", "{file}, kafka.ca_file: path does not point to a file."),
        ("[store]\nurl = 'mysql://db/ipt'\n", "{file}, store: the url begins with sqlite:/// or postgresql://."),
        (
            "[[sources]]\n[[sources]]\nid = 'b'\ntopics = ['b']\n[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\n",
            (
                '{file}: with several sources, the FHIR destination "ehr" needs the ids of those whose patients it '
                "has: set its sources."
            ),
        ),
        (
            "[[destinations]]\nkind = 'kafka'\nsources = ['main', 'north']\n",
            '{file}: the destination "kafka" names the source "north", which there is not.',
        ),
        ("[[sources]]\n[[sources]]\n", '{file}: the source id "main" stands twice.'),
        ("kafka = [\n", "{file}: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(written: Callable[[str], Path], text: str, expected: str) -> None:
    """The message says where, which key, and what is wrong with it."""
    file = written(text)

    assert expected.format(file=file) in _problem(file)


def test_every_wrong_setting_is_named_at_once(written: Callable[[str], Path]) -> None:
    """One run of `check` is enough to mend a file."""
    problem = _problem(written("[http]\nport = -1\n[log]\nlevel = 'loud'\n"))

    assert ["http.port", "log.level"] == [line.split(", ")[1].split(":")[0] for line in problem.splitlines()]


def test_a_missing_file_is_named() -> None:
    """A typing error in --config is not taken for "no file"."""
    assert "none.toml: No such file or directory. Name the file with --config or IPT_CONFIG." == _problem(
        Path("none.toml")
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("IPT_KAFKA__BOOTSTRP", "IPT_KAFKA__BOOTSTRAP"),
        ("IPT_HTTP_PORTS", "IPT_HTTP__PORT"),
        ("IPT_CONFG", "IPT_CONFIG"),
    ],
)
def test_an_unknown_environment_name_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str) -> None:
    """A misspelt name would otherwise leave the default in force, silently."""
    monkeypatch.setenv(name, "1")

    assert f"{name} in the environment is not a setting. Is {nearest} meant?" == _problem()


@pytest.mark.parametrize(
    "name",
    ["IPT_BRIDGE_SERVICE_HOST", "IPT_BRIDGE_SERVICE_PORT_HTTP", "IPT_BRIDGE_PORT", "IPT_BRIDGE_PORT_8080_TCP_ADDR"],
)
def test_names_that_kubernetes_adds_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A Kubernetes Service called ipt-bridge puts such names into every pod."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:8080")

    assert Settings() == load_settings()


def test_a_wrong_value_in_the_environment_is_named_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is sent to the place where the value stands."""
    monkeypatch.setenv("IPT_HTTP__PORT", "eighty")

    assert _problem().startswith("IPT_HTTP__PORT in the environment: input should be a valid integer")


def test_an_unknown_secret_file_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret under a wrong name is not passed over."""
    (tmp_path / "IPT_STORE__PASWORD").write_text(SECRET)
    monkeypatch.setenv("IPT_SECRETS_DIR", str(tmp_path))

    problem = _problem()

    assert f"IPT_STORE__PASWORD in {tmp_path} is not a setting. Is IPT_STORE__PASSWORD meant?" == problem


def test_a_secrets_folder_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting without secrets would only fail later, at the broker."""
    monkeypatch.setenv("IPT_SECRETS_DIR", "nowhere")

    assert "IPT_SECRETS_DIR: nowhere is no folder. Name the one that holds a file for each secret." == _problem()


@pytest.mark.parametrize(
    "text",
    [
        f"[store]\npassword = '{SECRET}'\nurl = 7\n",
        f"[store]\nurl = 'mysql://u:{SECRET}@db/ipt'\n",
        f"[store]\npassword = ['{SECRET}']\n",
        f"[kafka]\nsasl_password = '{SECRET}'\nsecurity_protocol = 'SASL_SSL'\n",
        f"[kafka]\nkey_password = {{ value = '{SECRET}' }}\n",
        f"[[destinations]]\nkind = 'fhir'\nbase = 7\nauth = {{ kind = 'bearer', token = '{SECRET}' }}\n",
        f"[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\nauth = {{ kind = 'basic', password = '{SECRET}' }}\n",
        f"[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\nauth = {{ kind = 'bearer', token = ['{SECRET}'] }}\n",
        f"[[destinations]]\nkind = 'fhir'\nbase = 'http://e'\nauth = '{SECRET}'\n",
        f"[[destinations]]\nkind = 'fhir'\nbase = 'https://u:{SECRET}@e'\n",
    ],
)
def test_no_message_holds_a_secret(written: Callable[[str], Path], text: str) -> None:
    """Not the message, and not the chain of exceptions that a traceback shows."""
    with pytest.raises(ConfigurationError) as raised:
        load_settings(written(text))

    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__


def test_no_representation_holds_a_secret() -> None:
    """Settings may be printed."""
    settings = Settings(
        store=Store(url=SecretStr(f"postgresql://ipt:{SECRET}@db/ipt"), password=SecretStr(SECRET)),
        kafka=Kafka(sasl_password=SecretStr(SECRET), key_password=SecretStr(SECRET)),
        sources=(Source(fhir_base="https://e", auth=BearerAuth(kind="bearer", token=SecretStr(SECRET))),),
    )

    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()} {settings.store.place}"


def test_settings_cannot_be_changed() -> None:
    """What the service runs with is what it was started with."""
    with pytest.raises(ValidationError):
        Settings().http.port = 1  # type: ignore[misc] # the attempt is the test


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("sqlite:///ipt.sqlite", None, "sqlite+aiosqlite:///ipt.sqlite"),
        ("sqlite:////var/lib/ipt.sqlite", None, "sqlite+aiosqlite:////var/lib/ipt.sqlite"),
        ("postgresql://ipt@db:5432/ipt", "p@ss/word", "postgresql+asyncpg://ipt:p%40ss%2Fword@db:5432/ipt"),
        ("postgres://ipt:old@db/ipt", "new", "postgresql+asyncpg://ipt:new@db/ipt"),
        ("postgresql://ipt:pw@db/ipt?sslmode=require", None, "postgresql+asyncpg://ipt:pw@db/ipt?ssl=require"),
        ("postgresql+asyncpg://db/ipt", None, "postgresql+asyncpg://db/ipt"),
    ],
)
def test_store_url_gets_driver_and_password(url: str, password: str | None, expected: str) -> None:
    """Operators write the URL that PostgreSQL's own tools take."""
    store = Store(url=SecretStr(url), password=SecretStr(password) if password else None)

    assert expected == store.sqlalchemy_url()


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    """Half of mutual TLS is an error."""
    (tmp_path / "client.pem").touch()

    with pytest.raises(ValidationError, match="certificate_file and key_file go together"):
        Kafka(certificate_file=tmp_path / "client.pem")


def test_every_setting_says_what_it_is() -> None:
    """Each field of each group has a sentence, and each number its unit."""
    for model in _models():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if name.endswith("_s"):
                assert "(seconds)" in field.description


def test_the_example_names_every_setting_and_is_valid(tmp_path: Path) -> None:
    """deploy/ipt-bridge.example.toml is complete: what the model knows stands in it, and the reverse."""
    for name in re.findall(r'"((?:tls|secrets)/[^"]+)"', EXAMPLE.read_text()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    load_settings(EXAMPLE)

    example = tomllib.loads(EXAMPLE.read_text())
    missing = [".".join(key) for key, _ in settings_fields() if not _stands(example, key)]
    assert [] == missing
    assert set(Source.model_fields) == set(example["sources"][0])
    assert [set(KafkaDestination.model_fields), set(FhirDestination.model_fields)] == [
        set(destination) for destination in example["destinations"]
    ]


def test_every_way_to_authenticate_in_the_example_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones in comments too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets").mkdir()
    text = EXAMPLE.read_text()
    for name in re.findall(r'"(secrets/[^"]+)"', text):
        (tmp_path / name).touch()

    ways = [tomllib.loads(f"auth = {way}")["auth"] for way in re.findall(r"^# +(\{ kind.*\})$", text, re.MULTILINE)]

    kinds = [FhirDestination(kind="fhir", base="http://e", auth=way).auth.kind for way in ways]
    assert ["bearer", "basic", "client-secret"] == kinds


def test_the_example_states_the_defaults_of_what_is_tuned() -> None:
    """Numbers in the example are those that hold without it."""
    example = tomllib.loads(EXAMPLE.read_text())

    for group in ("limits", "inbound", "deliveries", "sweeper", "http", "log"):
        assert getattr(Settings(), group).model_dump() == example[group]


def test_mapping_files_are_read_by_their_path(tmp_path: Path) -> None:
    """TOML and JSON count; what is written for people doesn't."""
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "north.toml").write_bytes(b"a = 1")
    (tmp_path / "forms.json").write_bytes(b"{}")
    (tmp_path / "README.md").write_bytes(b"# Mappings")

    assert {"forms.json": b"{}", "sites/north.toml": b"a = 1"} == read_mapping_files(tmp_path)


def test_a_missing_mapping_folder_is_named(tmp_path: Path) -> None:
    """The message says which setting to look at."""
    with pytest.raises(ConfigurationError, match=r"mappings: .*nowhere is no folder"):
        load_mappings(Settings(mappings=tmp_path / "nowhere"))


def test_the_mappings_that_come_with_the_service_are_found() -> None:
    """No setting is needed for the standard protocol."""
    assert "phq-9" in load_mappings(Settings()).instruments


AUTH: list[type[BaseModel]] = [NoAuth, BearerAuth, BasicAuth, ClientSecretAuth, BackendServicesAuth]


def _models() -> list[type[BaseModel]]:
    groups = [field.annotation for _, field in settings_fields()]
    nested = [group for group in groups if isinstance(group, type) and issubclass(group, BaseModel)]
    return [Settings, *nested, Source, Topic, KafkaDestination, FhirDestination, *AUTH]


def _stands(example: dict[str, Any], key: tuple[str, ...]) -> bool:
    here: Any = example
    for part in key:
        if part not in here:
            return False
        here = here[part]
    return True
