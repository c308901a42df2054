"""Whose files may be attached: every way out of what the user allowed, tried."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice import roots
from mcp_mailbox.postoffice.roots import Roots


class Place:
    """A project that may be given, a home with a secret, and a store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project = directory / "project"
        self.secret = directory / "secret.txt"
        self.store = directory / "store"
        (self.project / "docs").mkdir(parents=True)
        (self.project / "docs" / "plan.md").write_text("the plan")
        (self.project / "public.txt").write_text("public")
        self.secret.write_text("SECRET")
        self.store.mkdir()
        (self.store / "mail.db").write_text("SECRET")
        self.roots = Roots((str(self.project),), str(self.project), str(self.store))

    def read(self, path: str, given: Roots | None = None) -> bytes:
        with closing(roots.open_file(given or self.roots, path)) as file:
            return b"".join(iter(lambda: file.read(3), b""))

    def refused(self, path: str, given: Roots | None = None) -> Refusal:
        with pytest.raises(Refusal) as refusal:
            self.read(path, given)
        assert refusal.value.hint
        assert "SECRET" not in str(refusal.value)
        return refusal.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("path", ["docs/plan.md", "./docs/../docs/plan.md", "{project}/docs/plan.md"])
def test_a_file_below_an_allowed_directory_is_read(place: Place, path: str) -> None:
    assert place.read(path.format(project=place.project)) == b"the plan"


def test_without_the_users_word_nothing_is_given_and_it_is_said_what_to_set(place: Place) -> None:
    given = Roots((), str(place.project), str(place.store))
    said = place.refused("docs/plan.md", given)
    assert said.code is Code.FORBIDDEN
    assert "MCP_MAILBOX_ATTACH" in said.hint
    assert str(place.refused("/nowhere", given)) == str(said)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "docs/../../secret.txt",
        "{directory}/secret.txt",
        "{directory}/projects/public.txt",
        "{directory}/store/mail.db",
        "link.txt",
        "linked/secret.txt",
        "linked-store/mail.db",
        "loop",
        "absent.txt",
        "docs/absent/x",
        "public.txt/x",
        "/",
        ".",
        "..",
        "/proc/self/environ",
        "/dev/zero",
        "\0",
        "a\0b",
        "x" * 5000,
        "\udc80",
    ],
)
def test_what_is_elsewhere_and_what_is_not_there_are_told_alike(place: Place, path: str) -> None:
    (place.directory / "projects").mkdir()
    (place.directory / "projects" / "public.txt").write_text("SECRET")
    (place.project / "link.txt").symlink_to(place.secret)
    (place.project / "linked").symlink_to(place.directory)
    (place.project / "linked-store").symlink_to(place.store)
    (place.project / "loop").symlink_to("loop")
    path = path.format(directory=place.directory)
    said, absent = place.refused(path), place.refused("no such file")
    assert said.code is absent.code is Code.NO_FILE
    assert said.hint == absent.hint
    assert said.problem.partition("' is ")[2] == absent.problem.partition("' is ")[2]


def test_a_link_that_stays_inside_counts_as_what_it_leads_to(place: Place) -> None:
    (place.project / "latest.md").symlink_to("docs/plan.md")
    (place.project / "papers").symlink_to("docs")
    assert place.read("latest.md") == place.read("papers/plan.md") == b"the plan"


def test_an_allowed_directory_may_be_a_link_itself(place: Place) -> None:
    (place.directory / "work").symlink_to(place.project)
    given = Roots((str(place.directory / "work"),), str(place.directory / "work"), str(place.store))
    assert place.read("docs/plan.md", given) == b"the plan"
    assert place.read(str(place.project / "public.txt"), given) == b"public"


def test_a_second_name_of_a_file_of_the_store_gives_nothing_of_it(place: Place) -> None:
    """Everybody's mail is in it; who may make a link to it need not be who may read it."""
    second = place.project / "second"
    second.hardlink_to(place.store / "mail.db")
    other = place.project / "other"
    other.hardlink_to(place.project / "public.txt")
    refusals = [place.refused(str(second)), place.refused(str(place.project / "nothing"))]
    assert refusals[0].code is refusals[1].code is Code.NO_FILE
    assert refusals[0].hint == refusals[1].hint
    assert place.read(str(other)) == b"public"


@pytest.mark.parametrize("allowed", ["{directory}", "/", "{store}"])
def test_the_post_offices_own_directory_is_never_given(place: Place, allowed: str) -> None:
    allowed = allowed.format(directory=place.directory, store=place.store)
    given = Roots((allowed,), str(place.project), str(place.store))
    assert place.refused(str(place.store / "mail.db"), given).code is Code.NO_FILE
    if allowed != str(place.store):
        assert place.read("public.txt", given) == b"public"
        (place.project / "inside").symlink_to(place.store)
        assert place.refused("inside/mail.db", given).code is Code.NO_FILE
        (place.directory / "by-another-name").symlink_to(place.store)
        linked = Roots((allowed,), None, str(place.directory / "by-another-name"))
        assert place.refused(str(place.store / "mail.db"), linked).code is Code.NO_FILE


def test_what_is_no_file_is_told_as_what_it_is(place: Place) -> None:
    os.mkfifo(place.project / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(place.project)  # the name of a socket is short
        listener.bind("socket")
    assert "is a directory" in place.refused("docs").problem
    assert "no regular file" in place.refused("fifo").problem
    assert "no regular file" in place.refused("socket").problem
    assert place.refused("").code is Code.BAD_ARGUMENT


@pytest.fixture(autouse=True)
def where_we_were() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


if os.geteuid() == 0:

    def test_a_device_is_no_file(place: Place) -> None:
        os.mknod(place.project / "zero", 0o20666, os.makedev(1, 5))
        assert "no regular file" in place.refused("zero").problem

else:

    def test_a_file_that_may_not_be_read_is_told_as_that(place: Place) -> None:
        (place.project / "public.txt").chmod(0)
        assert "may not be read" in place.refused("public.txt").problem


@contextmanager
def when_opening(act: Callable[[], None], name: str) -> Iterator[None]:
    """Do something once, just before a path of that name is opened."""
    done = False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event == "open" and arguments[0] == name and not done:
            done = True
            act()

    sys.addaudithook(hook)  # it stays for good, and does nothing any more
    yield
    assert done
    done = True


def test_a_directory_that_becomes_a_link_while_it_is_opened_is_no_way_out(place: Place) -> None:
    outside = place.directory / "outside"
    outside.mkdir()
    (outside / "plan.md").write_text("SECRET")

    def swap() -> None:
        shutil.rmtree(place.project / "docs")
        (place.project / "docs").symlink_to(outside)

    with when_opening(swap, "docs"):
        assert place.refused("docs/plan.md").code is Code.NO_FILE


def test_a_file_that_becomes_a_link_while_it_is_opened_is_no_way_out(place: Place) -> None:
    def swap() -> None:
        (place.project / "public.txt").unlink()
        (place.project / "public.txt").symlink_to(place.secret)

    with when_opening(swap, "public.txt"):
        assert place.refused("public.txt").code is Code.NO_FILE


def test_a_file_that_becomes_a_fifo_while_it_is_opened_holds_nobody_up(place: Place) -> None:
    def swap() -> None:
        (place.project / "public.txt").unlink()
        os.mkfifo(place.project / "public.txt")

    with when_opening(swap, "public.txt"):
        assert "no regular file" in place.refused("public.txt").problem


def test_whatever_is_swapped_meanwhile_no_secret_gets_out(place: Place) -> None:
    """Not a step that is chosen, but all of them: a thread swaps as fast as it can."""
    ended = threading.Event()
    (place.directory / "good").write_text("good")

    def swap() -> None:
        spare = place.project / "spare"
        while not ended.is_set():
            spare.symlink_to(place.secret)
            spare.replace(place.project / "target")
            spare.hardlink_to(place.directory / "good")
            spare.replace(place.project / "target")

    thread = threading.Thread(target=swap)
    thread.start()
    got: set[bytes] = set()
    try:
        for _ in range(3000):
            try:
                got.add(place.read("target"))
            except Refusal:
                got.add(b"refused")
    finally:
        ended.set()
        thread.join()
    assert got <= {b"good", b"refused"}, "on a busy machine maybe only one of them"


def test_a_file_that_is_written_to_while_it_is_read_is_refused(place: Place) -> None:
    with closing(roots.open_file(place.roots, "public.txt")) as file:
        file.read(2)
        with (place.project / "public.txt").open("a") as more:
            more.write("more")
        with pytest.raises(Refusal, match="was changed"):
            list(iter(lambda: file.read(2), b""))


def test_no_descriptor_is_left_open(place: Place) -> None:
    place.read("public.txt")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - names
    for path in ("public.txt", "docs", "absent", "../secret.txt", "docs/plan.md"):
        try:
            place.read(path)
        except Refusal:
            continue
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 - names


@pytest.mark.parametrize(
    ("value", "project", "allowed", "ignored"),
    [
        ("", "/work/a", (), ()),
        (":", "/work/a", (), ()),
        (".", "/work/a", ("/work/a",), ()),
        ("docs:/srv/x", "/work/a", ("/work/a/docs", "/srv/x"), ()),
        (".:.", "/work/a", ("/work/a",), ()),
        (".:/srv", None, ("/srv",), (".",)),
        (".", "/", (), (".",)),
        ("..", "/work", (), ("..",)),
        (".", "{home}", (), (".",)),
        ("{home}", "/work/a", ("{home}",), ()),
        ("~/x", "/work/a", ("{home}/x",), ()),
        ("/", "/work/a", ("/",), ()),
    ],
)
def test_what_the_registration_says_is_read(
    value: str, project: str | None, allowed: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    home = str(Path.home())
    project = project.format(home=home) if project else None
    found = roots.parse(value.format(home=home), project, "/store")
    assert found == Roots(tuple(each.format(home=home) for each in allowed), project, "/store", ignored)


@pytest.mark.parametrize("project", ["/", None])
def test_a_registration_that_does_not_count_is_told_as_that(place: Place, project: str | None) -> None:
    said = place.refused("public.txt", roots.parse(".", project, str(place.store)))
    assert said.code is Code.FORBIDDEN
    assert "MCP_MAILBOX_ATTACH is '.'" in said.problem
    assert "whole paths" in said.hint


def test_a_relative_path_of_a_host_whose_project_is_not_known_is_refused_with_what_to_do(place: Place) -> None:
    said = place.refused("docs/plan.md", Roots((str(place.project),), None, str(place.store)))
    assert "whole path" in said.hint
