"""A private PostgreSQL server for the tests: its own data, a socket in a folder of its own, no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL = "apt-get install postgresql (macOS: brew install postgresql)"


def find_program(name: str) -> str:
    """The newest installed program of this name; Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    program = str(found[-1]) if found else shutil.which(name)
    assert program is not None, f"these tests need PostgreSQL's programs, and {name} is not installed: {INSTALL}"
    return program


class Postgres:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql:///{database}?host={self.folder}&user=postgres"

    def empty_database(self) -> str:
        """The address of a database without tables; the same for every test, since a new one takes its time."""
        self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url("postgres")

    def sql(self, statement: str) -> None:
        """Run one statement as the server's owner."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def make(self) -> None:
        """Make the files of the server; speed counts here, not what a power cut leaves."""
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run(find_program("initdb"), *options, "--pgdata", self.data)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\nmax_connections = 200\n")
            file.write("fsync = off\nfull_page_writes = off\n")

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._control("start", "--wait", "--log", self.folder / "log")

    def stop(self, mode: str = "fast") -> None:
        """Stop; `immediate` is as if it were killed."""
        self._control("stop", "--mode", mode)

    def _control(self, *words: object) -> None:
        self._run(find_program("pg_ctl"), "--silent", "--pgdata", self.data, *words)

    def _run(self, *words: object) -> None:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            # The server refuses to run as root.
            user=owner(),
            group=None if owner() is None else pwd.getpwnam(str(owner())).pw_gid,
        )
        assert done.returncode == 0, done.stderr


def owner() -> str | None:
    """Who runs the server: another user where this one is root."""
    return "postgres" if os.geteuid() == 0 else None


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server for as long as the block lasts."""
    find_program("initdb")
    # The path of a socket may have 107 letters, and pytest's folders are longer; they are also closed to others.
    folder = Path(tempfile.mkdtemp(prefix="medloop-pg-", dir="/tmp"))
    try:
        if (user := owner()) is not None:
            shutil.chown(folder, user)
        server = Postgres(folder)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)
