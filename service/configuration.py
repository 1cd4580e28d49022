"""Settings and mappings from outside: one TOML file, the environment, secrets in files, the mapping folder.

What stands in the environment wins over a secret's file, that over the TOML file, and that over the default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, NestedSecretsSettingsSource, SecretsSettingsSource
from pydantic_settings import SettingsError as SourceError

from service.domain.mapping_files import parse, vendor_profiles
from service.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile

CONFIG = "IPT_CONFIG"
"""Environment name of the TOML file's path."""
SECRETS_DIR = "IPT_SECRETS_DIR"
"""Environment name of the folder with a file for each secret, named as the setting is in the environment."""
DEFAULT_FILE = Path("ipt-bridge.toml")

_KINDS = frozenset({"kafka", "fhir", "none", "bearer", "basic", "client-secret", "backend-services"})
# Kubernetes and Docker add such names for each service beside this one.
_SERVICE_LINK = re.compile(r"IPT_[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


class ConfigurationError(ValueError):
    """A setting is wrong; the message names where it stands and its key, never a secret's value."""


def load_settings(config: Path | None = None) -> Settings:
    """Return the settings from the TOML file `config`, the environment and the secrets.

    Without `config` the file is the one that IPT_CONFIG names, else ./ipt-bridge.toml where there is one.
    Raises ConfigurationError with one sentence for each wrong setting.
    """
    file = config or _path_of(CONFIG) or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    written = _toml(file) if file else {}
    _refuse_unknown("the environment", {name.upper() for name in os.environ})
    folder = _path_of(SECRETS_DIR)
    if folder is not None and not folder.is_dir():
        msg = f"{SECRETS_DIR}: {folder} is no folder. Name the one that holds a file for each secret."
        raise ConfigurationError(msg)
    secrets = {path.name.upper(): path for path in sorted(folder.iterdir())} if folder else {}
    _refuse_unknown(str(folder), secrets)
    try:
        from_secrets = NestedSecretsSettingsSource(SecretsSettingsSource(Settings, folder))()
        from_environment = EnvSettingsSource(Settings)()
    except (OSError, UnicodeDecodeError) as error:
        msg = (
            f"{SECRETS_DIR}: a file of {folder} can't be read ({type(error).__name__}). Let the service's user read it."
        )
        raise ConfigurationError(msg) from None
    except SourceError as error:
        msg = f"The environment: {error}. Write lists and tables as JSON there, or use the file."
        raise ConfigurationError(msg) from None
    try:
        return Settings(**_laid_over(_laid_over(written, from_secrets), from_environment))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        lines = [_sentence(problem, file, secrets) for problem in problems]
        raise ConfigurationError("\n".join(lines)) from None


def environment_names() -> frozenset[str]:
    """Return every environment name that means something to the service."""
    return frozenset({CONFIG, SECRETS_DIR, *(_environment_name(key) for key, _ in settings_fields())})


def settings_fields(
    model: type[BaseModel] = Settings, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield every setting's key, groups included, and its declaration; what is inside lists is left out."""
    for name, field in model.model_fields.items():
        key = (*above, name)
        yield key, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_fields(field.annotation, key)


def read_mapping_files(folder: Path) -> dict[str, bytes]:
    """Return the mapping files below `folder`: bytes by path relative to it, with `/`.

    Raises ConfigurationError where there is no such folder.
    """
    if not folder.is_dir():
        msg = f"mappings: {folder} is no folder. Name the folder of the mapping files, or leave the setting out."
        raise ConfigurationError(msg)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".toml", ".json"} and path.is_file()
    }


def mappings_folder(settings: Settings) -> Path:
    """Return the folder of the mapping files: the one set, else the one installed, else the repository's."""
    installed = Path(__file__).parent / "_mappings"
    return settings.mappings or (installed if installed.is_dir() else Path(__file__).parent.parent / "mappings")


def load_mappings(settings: Settings, site: str | None = None) -> Mappings:
    """Return the mappings of a site, from the folder that the settings name.

    Raises ConfigurationError without the folder, MappingError where a file is wrong.
    """
    return parse(read_mapping_files(mappings_folder(settings)), site)


def load_vendor_profiles(settings: Settings) -> dict[str, VendorProfile]:
    """Return the profiles of EHR servers by name, from the folder of the mappings.

    Raises ConfigurationError without the folder, MappingError where a file is wrong.
    """
    return vendor_profiles(read_mapping_files(mappings_folder(settings)))


def check_profile(name: str, profile: str | None, profiles: Collection[str]) -> None:
    """Raise ConfigurationError where the destination `name` is given a vendor profile that there is none of."""
    if profile is not None and profile not in profiles:
        known = ", ".join(sorted(profiles))
        raise ConfigurationError(f"The destination {name}: there is no profile {profile}. Name one of {known}.")


def _path_of(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{file}: {error.strerror}. Name the file with --config or {CONFIG}."
    except ValueError as error:
        msg = f"{file}: {error}."
    raise ConfigurationError(msg)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _laid_over(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _environment_name(key: tuple[str | int, ...]) -> str:
    return "IPT_" + "__".join(str(part) for part in key).upper()


def _refuse_unknown(where: str, names: set[str] | Mapping[str, Path]) -> None:
    known = environment_names()
    for name in sorted(names):
        if name.startswith("IPT_") and name not in known and ("__" in name or not _SERVICE_LINK.fullmatch(name)):
            msg = f"{name} in {where} is not a setting.{_nearest(name, known)}"
            raise ConfigurationError(msg)


def _nearest(name: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" Is {near[0]} meant?" if near else " Take it away."


def _sentence(problem: ErrorDetails, file: Path | None, secrets: Mapping[str, Path]) -> str:
    # A union's own name for the branch it took is no key of the file.
    key = tuple(part for part in problem["loc"] if part not in _KINDS or problem["loc"][0] == part)
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    name = _environment_name(key)
    if name in {given.upper() for given in os.environ}:
        where = f"{name} in the environment"
    elif name in secrets:
        where = str(secrets[name])
    else:
        where = f"{file or 'The settings'}, {place}" if place else str(file or "The settings")
    if problem["type"] == "extra_forbidden":
        siblings = frozenset(_siblings(key))
        return f"{where}: no such setting.{_nearest(str(key[-1]), siblings)}"
    said = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{where}: {said[:1].lower() if said[1:2].islower() else said[:1]}{said[1:]}."


def _siblings(key: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the keys that are known where `key` stands."""
    models: list[type[BaseModel]] = [Settings]
    for part in key[:-1]:
        if isinstance(part, str):
            models = [
                inner
                for model in models
                if part in model.model_fields
                for inner in _models_in(model.model_fields[part].annotation)
            ]
    for model in models:
        yield from model.model_fields


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
