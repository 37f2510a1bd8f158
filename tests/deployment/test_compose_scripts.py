"""The scripts of deploy/, run: secrets are made, servers start with them, a backup can be restored."""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import yaml
from tests.deployment.names import interpolated
from tests.support.debian import program
from tests.support.deployment import wait_until
from tests.support.migrated import migrate
from tests.support.pages import DOCS, ROOT
from tests.support.processes import free_port, temporary_folder
from tests.support.servers import (
    POSTGRES_FOLDER,
    POSTGRES_PACKAGE,
    PostgresDatabases,
    PostgresServer,
    installed_package,
)

from refund_worker.errors import BadSettings
from refund_worker.processors.accounts import accounts_of
from refund_worker.settings import load_settings

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
PAGE = (DOCS / "deployment.md").read_text("utf-8")
MAKE_SECRETS = ROOT / "deploy" / "compose" / "make-secrets"
BACKUP = ROOT / "deploy" / "backup"
TYPED = "sk_test_typedByAPerson\nwhsec_typedByAPerson\n"


def make_secrets(
    folder: Path, typed: str = TYPED, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MAKE_SECRETS, *options],
        cwd=folder,
        input=typed,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


def files_of(service: str, folder: Path, env: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return the files of secrets that Compose names to a service, with these lines in `.env`."""
    given = {name: interpolated(value, env) for name, value in SERVICES[service]["environment"].items()}
    return {
        name: value.replace("/run/secrets", str(folder / "secrets"))
        for name, value in given.items()
        if value.startswith("/run/secrets/")
    }


def lines_of_the_page() -> dict[str, str]:
    """Return the lines of `.env` that docs/deployment.md gives for an installation without Stripe."""
    block = PAGE.partition("**Without an account at Stripe,**")[2].split("```")[1]
    return dict(line.split("=", 1) for line in block.split())


def test_made_secrets_are_complete_and_start_our_processes(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    assert made.returncode == 0, made.stderr
    secrets = contents(tmp_path)
    declared = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["secrets"]
    assert set(secrets) == set(declared)
    # Others on this machine cannot enter; the users of the containers can read the single files that they are given.
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "secrets").iterdir()} == {0o444}
    for service in ("web", "migrate"):
        settings = load_settings(files_of(service, tmp_path))
        assert settings.database_url.get_secret_value().startswith("postgresql+psycopg://refund_worker")
        assert settings.has_stripe == (service == "web")
    assert not any(secret in made.stdout + made.stderr for secret in secrets.values())


def test_without_stripe_it_starts_with_the_lines_of_the_page(tmp_path: Path) -> None:
    made = make_secrets(tmp_path, "", "--without-stripe")
    assert made.returncode == 0, made.stderr
    secrets, lines = contents(tmp_path), lines_of_the_page()
    assert set(secrets) == set(yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["secrets"])
    assert {f"{name}={value}" for name, value in lines.items()} <= set(re.split(r"[\s,;]+", made.stderr))
    file = tmp_path / "secrets" / "processors"
    file.chmod(0o644)
    file.write_text('["paypal"]\nclient_id = "AnIdOfTheClient"\nclient_secret = "aSecretOfTheClient"\n')
    accounts = accounts_of(load_settings(files_of("web", tmp_path, lines)))
    assert set(accounts) == {"paypal", "manual"}
    assert accounts["paypal"].is_called
    # A key that was forgotten is not taken for an installation without Stripe.
    with pytest.raises(BadSettings, match="STRIPE_API_KEY_FILE: the file is empty"):
        load_settings(files_of("web", tmp_path))


def test_account_at_stripe_can_be_opened_later(tmp_path: Path) -> None:
    assert make_secrets(tmp_path, "", "--without-stripe").returncode == 0
    assert make_secrets(tmp_path).returncode == 0
    assert contents(tmp_path)["stripe_api_key"] == TYPED.split()[0]
    assert make_secrets(tmp_path, "", "--without-stripe").returncode == 0
    assert contents(tmp_path)["stripe_webhook_secret"] == TYPED.split()[1]
    assert make_secrets(tmp_path, TYPED, "--no-stripe").returncode == 2


def test_secrets_are_kept_when_they_are_made_again(tmp_path: Path) -> None:
    assert make_secrets(tmp_path, "").returncode == 1  # nothing was typed
    assert make_secrets(tmp_path).returncode == 0
    before = contents(tmp_path)
    assert make_secrets(tmp_path, "sk_test_other\nwhsec_other\n", REDIS_PASSWORD="other").returncode == 0
    assert contents(tmp_path) == before
    random = [before[name] for name in before if name.endswith("_password")]
    assert len(set(random)) == 4
    assert all(len(password) == 40 for password in random)


def test_passwords_of_an_older_deployment_are_taken_over(tmp_path: Path) -> None:
    assert make_secrets(tmp_path, POSTGRES_PASSWORD="a/b@c").returncode == 2
    made = make_secrets(tmp_path, POSTGRES_PASSWORD="owner1", POSTGRES_APP_PASSWORD="app2", REDIS_PASSWORD="redis3")
    assert made.returncode == 0, made.stderr
    secrets = contents(tmp_path)
    assert ":owner1@" in secrets["owner_database_url"]
    assert ":app2@" in secrets["database_url"]
    assert ":redis3@" in secrets["broker_url"]


def script_of(service: str, folder: Path, secret: str, *, port: int = 0) -> tuple[list[str], Mapping[str, str]]:
    """Return a service's command with its paths in `folder`, and an environment with the image's entry point."""
    shell, option, script = SERVICES[service]["command"]
    (folder / "secret").write_text(secret)
    entry = folder / "docker-entrypoint.sh"
    entry.write_text(f'#!/bin/sh\necho "$@" > {folder}/started\nserver="$1"; shift\nexec "$server" "$@"\n')
    entry.chmod(0o755)
    script = script.replace("$$", "$").replace(f"/run/secrets/{service}_password", str(folder / "secret"))
    script = script.replace("/tmp/redis.conf", f"{folder}/redis.conf")
    if port:
        script = script.rstrip() + f" --port {port} --bind 127.0.0.1 --dir {folder}\n"
    return [shell, option, script], {"PATH": f"{folder}:/usr/bin:/bin:/usr/sbin"}


@pytest.mark.parametrize("service", ["redis", "rabbitmq"])
def test_server_without_a_password_does_not_start(service: str, tmp_path: Path) -> None:
    command, environment = script_of(service, tmp_path, "")
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 1
    assert f"secrets/{service}_password is empty" in ran.stderr
    assert not (tmp_path / "started").exists()


def test_redis_takes_its_password_from_a_file_and_hides_it() -> None:
    program("redis-server")
    if os.geteuid() != 0:
        pytest.skip("the container's script gives the file to the user redis, which only root can")
    folder, port = temporary_folder("refund-worker-compose-redis-"), free_port()
    folder.chmod(0o777)
    command, environment = script_of("redis", folder, "thePassword", port=port)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(port=port, password="thePassword")
            wait_until(lambda: answers(client), 20)
            with pytest.raises(redis.exceptions.AuthenticationError):
                redis.Redis(port=port).ping()
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            shown = Path(f"/proc/{server.pid}/cmdline").read_bytes() + Path(f"/proc/{server.pid}/environ").read_bytes()
            assert b"thePassword" not in shown
            rights = (folder / "redis.conf").stat()
            assert (stat.S_IMODE(rights.st_mode), pwd.getpwuid(rights.st_uid).pw_name) == (0o600, "redis")
        finally:
            server.terminate()
        # TERM reaches the server itself, not a shell above it.
        assert server.wait(10) == 0


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def postgres_environment(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    programs = installed_package(POSTGRES_PACKAGE, "Postgres") / POSTGRES_FOLDER / "bin"
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username or "",
        "PGDATABASE": parts.path[1:],
    }


def test_application_role_can_sign_in_with_its_password(postgres_server: PostgresDatabases, tmp_path: Path) -> None:
    url = postgres_server.create()
    script = (ROOT / "deploy/compose/application-role.sh").read_text("utf-8")
    (tmp_path / "password").write_text("it's 'quoted'")
    script = script.replace("/run/secrets/postgres_app_password", str(tmp_path / "password"))
    environment = postgres_environment(url)
    environment |= {"POSTGRES_USER": environment["PGUSER"], "POSTGRES_DB": environment["PGDATABASE"]}
    try:
        subprocess.run(["sh", "-e", "-c", script], env=environment, check=True, timeout=30)
        with psycopg.connect(
            host=environment["PGHOST"],
            port=environment["PGPORT"],
            user="refund_worker_app",
            password="it's 'quoted'",
            dbname=environment["PGDATABASE"],
        ) as connection:
            row = connection.execute(
                "select rolsuper, rolcreatedb, rolcreaterole from pg_roles where rolname = current_user"
            ).fetchone()
        assert row == (False, False, False)
    finally:
        postgres_server.drop(url)
        with psycopg.connect(postgres_server.admin_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS refund_worker_app")


def run_backup(environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BACKUP, folder], env=dict(environment), capture_output=True, text=True, timeout=60, check=False
    )


def test_backup_restores_to_an_equal_database(postgres_server: PostgresDatabases, tmp_path: Path) -> None:
    url, copy = postgres_server.create(prepare=migrate), postgres_server.create()
    environment = postgres_environment(url)
    try:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        ran = run_backup(environment, tmp_path)
        assert ran.returncode == 0, ran.stderr
        (dump,) = tmp_path.iterdir()
        assert stat.S_IMODE(dump.stat().st_mode) == 0o600
        restored = postgres_environment(copy)
        subprocess.run(
            ["pg_restore", "--dbname", restored["PGDATABASE"], "--exit-on-error", dump],
            env=restored,
            check=True,
            timeout=60,
        )
        with psycopg.connect(copy.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT sum(number) FROM kept").fetchone() == (500_500,)
            assert connection.execute("SELECT count(*) FROM refunds").fetchone() == (0,)
    finally:
        postgres_server.drop(url)
        postgres_server.drop(copy)


def guide_of_a_restore() -> list[str]:
    """Return the commands of the guide that run in the database's container, as they are there."""
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8").partition("## Backup and restore")[2]
    return re.findall(r"^docker compose exec (?:-T )?postgres (.*)$", page.partition("## ")[0], re.MULTILINE)


def test_backup_after_the_guides_restore_has_what_was_restored(tmp_path: Path) -> None:
    used = SERVICES["backup"]["environment"]
    urls = (urlsplit(file) for file in re.findall(r"postgresql\S+@postgres/\w+", MAKE_SECRETS.read_text("utf-8")))
    assert {url.path[1:] for url in urls} == {used["PGDATABASE"]}
    with PostgresServer() as server:
        admin = server.databases.admin_url.replace("+psycopg", "")
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("CREATE ROLE refund_worker LOGIN SUPERUSER")
            connection.execute("CREATE DATABASE refund_worker OWNER refund_worker")
        mine = urlsplit(admin)._replace(netloc=f"refund_worker@127.0.0.1:{server.port}", path="/" + used["PGDATABASE"])
        environment = postgres_environment(mine.geturl())
        with psycopg.connect(mine.geturl()) as connection:
            connection.execute("CREATE TABLE good AS SELECT 1 AS number")
        assert run_backup(environment, tmp_path).returncode == 0
        (dump,) = tmp_path.glob("*.dump")
        dump.rename(tmp_path / "restore.dump")
        with psycopg.connect(mine.geturl()) as connection:
            connection.execute("DROP TABLE good")
        for command in guide_of_a_restore():
            subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=True, timeout=60)
        assert run_backup(environment, tmp_path).returncode == 0
        (again,) = tmp_path.glob("refund_worker-*.dump")
        listed = subprocess.run(["pg_restore", "--list", again], env=environment, capture_output=True, text=True)
        assert "TABLE DATA public good" in listed.stdout


def test_secret_files_of_the_guide_can_be_changed_as_it_says(tmp_path: Path) -> None:
    assert make_secrets(tmp_path).returncode == 0
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    (advice,) = re.findall(r"`(chmod \S+ secrets/NAME)`", page)
    for file in (tmp_path / "secrets").iterdir():
        assert not file.stat().st_mode & stat.S_IWUSR
        subprocess.run(advice.replace("NAME", file.name).split(), cwd=tmp_path, check=True)
        assert file.stat().st_mode & stat.S_IWUSR
    written = re.findall(r"^(.*)cat > (secrets/\w+)", page, re.MULTILINE)
    assert written
    assert [name for before, name in written if f"chmod u+w {name}" not in before] == []


def test_failed_backup_leaves_the_older_ones_and_no_half_a_file(tmp_path: Path) -> None:
    old = tmp_path / "shop-20200101T000000Z.dump"
    old.write_text("old")
    os.utime(old, (1_577_836_800, 1_577_836_800))
    environment = postgres_environment(f"postgresql://nobody@127.0.0.1:{free_port()}/shop")
    ran = run_backup(environment, tmp_path)
    assert ran.returncode == 1
    assert "failed" in ran.stderr
    assert [*tmp_path.iterdir()] == [old]


def test_backups_older_than_the_kept_days_are_deleted(postgres_server: PostgresDatabases, tmp_path: Path) -> None:
    url = postgres_server.create()
    try:
        ages = {"a": 13, "b": 15}
        for name, days in ages.items():
            file = tmp_path / f"shop-{name}.dump"
            file.write_text("old")
            at = file.stat().st_mtime - days * 86_400
            os.utime(file, (at, at))
        other = tmp_path / "notes.txt"
        other.write_text("not ours")
        os.utime(other, (1, 1))
        assert run_backup(postgres_environment(url), tmp_path).returncode == 0
        left = {file.name for file in tmp_path.iterdir()}
        assert {"shop-a.dump", "notes.txt"} < left
        assert len(left) == 3
        assert run_backup({**postgres_environment(url), "KEEP_DAYS": "all"}, tmp_path).returncode == 2
    finally:
        postgres_server.drop(url)


def test_repeated_backup_takes_one_now_and_ends_with_term(postgres_server: PostgresDatabases, tmp_path: Path) -> None:
    url = postgres_server.create()
    command = [str(BACKUP), str(tmp_path), "--every", "3600"]
    with subprocess.Popen(command, env=postgres_environment(url), stderr=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: any(tmp_path.glob("*.dump")), 30)
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    postgres_server.drop(url)
