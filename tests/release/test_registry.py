"""The registry on SQLite: the laws, a model beside it, many processes, kill -9, and files that are not ours."""

import itertools
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from shipworthy.errors import Conflict, Failed, NotFound, Refused
from shipworthy.release import registry as module
from shipworthy.release.registry import SqliteRegistry
from shipworthy.testing import laws

BUNDLES = [f"{n:064x}" for n in range(4)]


@pytest.fixture
def registry(tmp_path):
    return SqliteRegistry(tmp_path / "registry.db")


@pytest.mark.parametrize("law", laws.REGISTRY, ids=lambda law: law.__name__)
def test_it_keeps_every_law(law, registry):
    law(registry)


class AgainstADict(RuleBasedStateMachine):
    """Whatever is called in whatever order, the registry says what plain dicts say."""

    names, aliases = st.sampled_from(["a", "b"]), st.sampled_from(["champion", "challenger"])
    versions = st.none() | st.integers(1, 4)

    @initialize()
    def start(self):
        self.folder = tempfile.TemporaryDirectory()
        self.registry = SqliteRegistry(module.Path(self.folder.name) / "registry.db")
        self.bundles, self.at, self.lines, self.order = {"a": [], "b": []}, {}, [], []

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(name=names, bundle=st.sampled_from(BUNDLES))
    def add(self, name, bundle):
        release = self.registry.add(name, bundle, "me")
        if bundle not in self.bundles[name]:
            self.bundles[name].append(bundle)
            self.order.append((name, len(self.bundles[name])))
        assert (release.name, release.bundle) == (name, bundle)
        assert release.version == self.bundles[name].index(bundle) + 1

    @rule(name=names, alias=aliases, expected=versions, right=st.booleans(), version=versions)
    def swap(self, name, alias, expected, right, version):
        now = self.at.get((name, alias))
        expected = now if right else expected
        call = {"expected": expected, "version": version, "by": "me", "reason": "why"}
        if now != expected:
            with pytest.raises(Conflict):
                self.registry.swap(name, alias, **call)
        elif (version or 0) > len(self.bundles[name]) or version is now is None:
            with pytest.raises(NotFound):
                self.registry.swap(name, alias, **call)
        else:
            self.registry.swap(name, alias, **call)
            self.at[name, alias] = version
            self.lines.append((name, alias, now, version))

    @rule(name=names, which=versions.filter(bool) | aliases)
    def get(self, name, which):
        version = which if isinstance(which, int) else self.at.get((name, which))
        if version is None or version > len(self.bundles[name]):
            with pytest.raises(NotFound):
                self.registry.get(name, which)
        else:
            assert self.registry.get(name, which).bundle == self.bundles[name][version - 1]

    @rule(name=names)
    def read(self, name):
        told = [(line.name, line.alias, line.before, line.after) for line in self.registry.log(name)]
        assert told == [line for line in self.lines if line[0] == name]
        assert [(one.name, one.version) for one in self.registry.releases()] == self.order
        placed = {alias: version for (own, alias), version in self.at.items() if own == name and version is not None}
        assert self.registry.aliases(name) == placed


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_creating_and_reading_make_no_file(tmp_path):
    registry = SqliteRegistry(tmp_path / "deep" / "registry.db")
    with pytest.raises(NotFound, match="nothing is released yet"):
        registry.get("a", "champion")
    with pytest.raises(NotFound, match="nothing is released yet"):
        registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    assert registry.releases() == registry.log("a") == ()
    assert registry.aliases("a") == {}
    assert list(tmp_path.iterdir()) == []
    registry.add("a", BUNDLES[0], "me")
    assert (tmp_path / "deep" / "registry.db").is_file()


def test_a_file_that_a_killed_first_writer_left_empty_is_an_empty_registry(tmp_path, registry):
    (tmp_path / "registry.db").touch()
    assert registry.releases() == ()
    assert registry.add("a", BUNDLES[0], "me").version == 1


def test_aliases_are_those_that_point_somewhere_now(registry):
    for bundle in BUNDLES[:2]:
        registry.add("a", bundle, "me")
    for alias, before, after in (("x", None, 1), ("y", None, 2), ("x", 1, 2), ("z", None, 1), ("y", 2, None)):
        registry.swap("a", alias, expected=before, version=after, by="me", reason="")
    assert registry.aliases("a") == {"x": 2, "z": 1}
    assert registry.aliases("b") == {}


def test_times_are_utc_to_the_second(registry):
    stamp = registry.add("a", BUNDLES[0], "me").created_at
    line = registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    for text in (stamp, line.at):
        moment = module.datetime.fromisoformat(text)
        assert moment.utcoffset().total_seconds() == 0
        assert moment.microsecond == 0
        assert abs(moment.timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotion SET reason = 'never mind'",
        "DELETE FROM promotion",
        "INSERT OR REPLACE INTO promotion VALUES (1, 'a', 'champion', NULL, 1, 'now', 'me', 'forged')",
        "UPDATE release SET bundle = 'other'",
        "DELETE FROM release",
        "INSERT OR REPLACE INTO release VALUES ('a', 1, 'other', 'now', 'me')",
        "INSERT OR REPLACE INTO release SELECT 'a', 7, bundle, 'now', 'me' FROM release",
    ],
)
def test_neither_log_nor_releases_can_be_edited(tmp_path, registry, statement):
    registry.add("a", BUNDLES[0], "me")
    registry.swap("a", "champion", expected=None, version=1, by="me", reason="first")
    before = registry.log("a"), registry.releases()
    with (
        closing(sqlite3.connect(tmp_path / "registry.db")) as database,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        database.execute(statement)
    assert (registry.log("a"), registry.releases()) == before


CALLS = [
    lambda registry: registry.add("a", BUNDLES[0], "me"),
    lambda registry: registry.get("a", 1),
    lambda registry: registry.swap("a", "champion", expected=None, version=1, by="me", reason=""),
    lambda registry: registry.log("a"),
    lambda registry: registry.releases(),
]
each_call = pytest.mark.parametrize("call", CALLS, ids=["add", "get", "swap", "log", "releases"])


@each_call
@pytest.mark.parametrize("content", [b"this is a text, not a database at all" * 40, b"SQLite format 3\x00" + b"\xff" * 2000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, registry, call, content):
    (tmp_path / "registry.db").write_bytes(content)
    with pytest.raises(Refused, match="is not a registry"):
        call(registry)
    assert (tmp_path / "registry.db").read_bytes() == content


@each_call
def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path, registry, call):
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database:
        database.execute("CREATE TABLE cats (name)")
        database.execute("PRAGMA user_version = 1")
    before = (tmp_path / "registry.db").read_bytes()
    with pytest.raises(Refused, match="is not a registry"):
        call(registry)
    assert (tmp_path / "registry.db").read_bytes() == before


@each_call
def test_a_newer_schema_asks_for_an_upgrade(tmp_path, registry, call):
    registry.add("a", BUNDLES[0], "me")
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database:
        database.execute(f"PRAGMA user_version = {module.SCHEMA + 1}")
    with pytest.raises(Refused, match="newer Shipworthy") as refused:
        call(registry)
    assert "upgrade" in refused.value.next


def test_a_registry_that_is_held_too_long_says_so(tmp_path, registry, monkeypatch):
    registry.add("a", BUNDLES[0], "me")
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failed, match="cannot be used") as failed:
            registry.add("a", BUNDLES[1], "me")
        assert "let it end" in failed.value.next
        assert registry.get("a", 1).version == 1


def test_a_place_that_is_a_folder_is_our_failure(tmp_path):
    for place in (tmp_path, tmp_path / "file" / "registry.db"):
        (tmp_path / "file").touch()
        with pytest.raises(Failed, match="cannot be used") as failed:
            SqliteRegistry(place).add("a", BUNDLES[0], "me")
        assert "right to write" in failed.value.next


def test_a_full_disk_is_our_failure_and_changes_nothing(tmp_path, registry):
    registry.add("a", BUNDLES[0], "me")
    script = f"""
import resource
from pathlib import Path
from shipworthy.errors import Failed
from shipworthy.release.registry import SqliteRegistry
place = Path({str(tmp_path)!r}) / "registry.db"
resource.setrlimit(resource.RLIMIT_FSIZE, (place.stat().st_size, place.stat().st_size))
try:
    SqliteRegistry(place).add("a", "f" * 64, "me" * 9000)
except Failed as error:
    print(error.next)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "free some space" in done.stdout
    assert [release.version for release in registry.releases()] == [1]


@pytest.mark.parametrize("which", [2**80, "9" * 5000, "\udcff", "champion\0"])
def test_values_that_no_registry_holds_are_refused(registry, which):
    registry.add("a", BUNDLES[0], "me")
    with pytest.raises(Refused):
        registry.get("a", which)


def spawn(tmp_path, body):
    script = f"""
import itertools, sys
from pathlib import Path
from shipworthy.errors import Conflict, NotFound
from shipworthy.release.registry import SqliteRegistry
registry = SqliteRegistry(Path({str(tmp_path)!r}) / "registry.db")
me = sys.argv[1]
print("go", flush=True)
sys.stdin.readline()
{body}
"""
    return lambda me: subprocess.Popen(
        [sys.executable, "-c", script, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_swaps_of_four_processes_are_never_lost(tmp_path, registry):
    """Each process makes 50 swaps that succeed; the log holds 200 lines, each from where the one before left off."""
    for bundle in BUNDLES[:2]:
        registry.add("a", bundle, "me")
    registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    start = spawn(
        tmp_path,
        """
done = lost = 0
while done < 50:
    at = registry.get("a", "champion").version
    try:
        registry.swap("a", "champion", expected=at, version=3 - at, by=me, reason=str(done))
        done += 1
    except Conflict:
        lost += 1
print(lost)
""",
    )
    processes = [start(n) for n in range(4)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    conflicts = sum(int(process.communicate(timeout=120)[0]) for process in processes)
    log = registry.log("a")
    assert len(log) == 201
    assert all(one.after == other.before for one, other in itertools.pairwise(log))
    for n in range(4):
        assert [line.reason for line in log if line.by == str(n)] == [str(done) for done in range(50)]
    assert conflicts > 0, "the processes never met: the test proves nothing"


def test_the_first_release_of_many_processes_makes_one_registry(tmp_path, registry):
    start = spawn(tmp_path, 'print(registry.add("a", me * 64, me).version)')
    processes = [start(n) for n in range(4)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(process.communicate(timeout=60)[0].strip() for process in processes) == ["1", "2", "3", "4"]
    assert len(registry.releases("a")) == 4


def test_a_killed_writer_leaves_a_consistent_registry(tmp_path, registry):
    """What a process said was done is there after kill -9, and what is there is whole."""
    start = spawn(
        tmp_path,
        """
for n in itertools.count():
    release = registry.add("a", f"{me}-{n}", me)
    try:
        at = registry.get("a", "champion").version
    except NotFound:
        at = None
    registry.swap("a", "champion", expected=at, version=release.version, by=me, reason=str(n))
    print(release.version, flush=True)
""",
    )
    for n, delay in enumerate((0.01, 0.03, 0.05, 0.08, 0.13, 0.21)):
        with start(n) as process:
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().split()
        promoted = [line.after for line in registry.log("a") if line.by == str(n)]
        assert promoted[: len(said)] == list(map(int, said))
        assert len(promoted) <= len(said) + 1
    releases, log = registry.releases("a"), registry.log("a")
    assert log
    assert [release.version for release in releases] == list(range(1, len(releases) + 1))
    assert all(one.after == other.before for one, other in itertools.pairwise(log))
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_one_object_serves_many_threads(registry):
    versions = []
    threads = [threading.Thread(target=lambda n=n: versions.append(registry.add("a", f"{n}", "me").version)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 9))
