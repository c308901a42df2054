"""Access tokens of an OAuth issuer: who is let in by them, as whom, and what is not taken for one."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import warnings
from collections.abc import Callable, Iterator

import anyio
import pytest

from mcp_mailbox import config
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.cli import commands
from mcp_mailbox.fronts.http.issuer import UNKNOWN_EVERY, Keys, Unavailable
from mcp_mailbox.fronts.http.oauth import Verifier, principal_of
from tests.fronts.world import Served
from tests.http.authority import AUDIENCE, Authority, Json, Key, part
from tests.http.caller import Answer, Caller
from tests.http.conftest import Post
from tests.http.store import Store

METADATA = "https://mail.example.org/.well-known/oauth-protected-resource/mcp"


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority().running() as running:
        yield running


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    arguments = ("--oauth-issuer", authority.url, "--oauth-audience", AUDIENCE)
    served = Served(tmp_path_factory.mktemp("h"), *arguments, MCP_MAILBOX_AUDIT="on")
    yield served.start()
    served.end()


@pytest.fixture
def post(server: Served) -> Post:
    return Post(server)


def ask(post: Post, token: str) -> Answer:
    return post.caller(token).alone("tools/list")


def test_a_token_of_the_issuer_has_mailboxes_of_its_own_and_exchanges_mail_with_ours(
    post: Post, authority: Authority
) -> None:
    ann, ours = post.caller(authority.token(), mailbox_address="ann"), post.caller(mailbox_address="bob")
    for caller in (ann, ours):
        caller.call("create_mailbox", contact="open")
    ann.call("send", to="bob", body="hello")
    assert ours.call("wait_for_message")["messages"][0]["from"] == f"ann@{post.space}"
    assert ours.refused("list_inbox", mailbox="ann")["error"] == "unknown_mailbox"
    assert ann.refused("list_inbox", mailbox="bob")["error"] == "unknown_mailbox"
    fresh = post.caller(authority.token(iat=int(time.time()) - 5), mailbox_address="ann")
    assert fresh.call("list_inbox")["messages"] == [], "the next token of the same subject is the same principal"


def test_a_session_goes_on_with_the_next_token_of_the_same_subject_client_and_scopes_only(
    post: Post, authority: Authority
) -> None:
    first = post.caller(authority.token())
    first.begin()
    others = {"next": 200, "fewer scopes": 404, "client": 404}
    tokens = [authority.token(jti="2"), authority.token(scope="mailbox:read"), authority.token(client_id="x")]
    for (what, status), token in zip(others.items(), tokens, strict=True):
        other = post.caller(token)
        other.session = first.session
        assert other.within("tools/list").status == status, what


@pytest.mark.parametrize("subject", ["local", "", "#local", "~" + "0" * 24, "x" * 500, "\u202elocal", "a b"])
def test_no_subject_is_the_machines_own_user(post: Post, authority: Authority, subject: str) -> None:
    mine = post.caller(mailbox_address="mine")
    mine.call("create_mailbox")
    answer = post.caller(authority.token(sub=subject)).tool("list_inbox", mailbox="mine")
    if subject:
        assert answer.content["error"] == "unknown_mailbox"
    else:
        assert answer.status == 401


def test_principals_of_an_issuer_never_meet_each_other_or_anybody_elses() -> None:
    issuers = ["https://a.example", "https://a.example/", "https://b.example", "https://a.example/" + "x" * 60]
    subjects = ["local", "a", "~a", "a#b", "#", "x" * 60, "x" * 61, "x" * 500, "\n", "\u202e"]
    subjects += [principal_of(issuer, subject).rpartition("#")[2] for issuer in issuers for subject in subjects]
    found = [principal_of(issuer, subject) for issuer in issuers for subject in dict.fromkeys(subjects)]
    assert len(set(found)) == len(found)
    assert all(len(each) <= 64 and each.isprintable() and "#" in each and each != "local" for each in found)


def test_scopes_are_those_of_the_token(post: Post, authority: Authority) -> None:
    everything = post.caller(authority.token(), mailbox_address="ann")
    everything.call("create_mailbox")
    reader = post.caller(authority.token(scope="openid mailbox:read"), mailbox_address="ann")
    assert reader.call("list_inbox")["messages"] == []
    assert reader.refused("send", to="ann", body="x")["error"] == "forbidden"
    assert reader.refused("create_mailbox", name="other")["error"] == "forbidden"
    nothing = ask(post, authority.token(scope="openid profile"))
    assert nothing.status == 403
    assert 'error="insufficient_scope"' in nothing.headers["www-authenticate"]
    assert "mailbox:read" in nothing.headers["www-authenticate"]


def by_public_key(authority: Authority) -> str:
    """Sign with the public key as a secret (CVE-2015-9235)."""
    signed = f"{part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'one'})}.{part(authority.claims())}"
    secret = json.dumps(authority.first.public).encode()
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def changed(token: str) -> str:
    head, claims, signature = token.split(".")
    del claims
    return f"{head}.{part({'sub': 'eve'})}.{signature}"


def weak(authority: Authority) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyJWT says so, too
        return authority.token(WEAK)


EVIL = Key("one")
WEAK = Key("weak", bits=1024)
BAD: dict[str, Callable[[Authority], str]] = {
    "another audience": lambda a: a.token(aud="https://other.example/mcp"),
    "no audience": lambda a: a.token(aud=None),
    "another issuer": lambda a: a.token(iss="https://evil.example"),
    "expired": lambda a: a.token(exp=int(time.time()) - 1),
    "no end": lambda a: a.token(exp=None),
    "an end that is no number": lambda a: a.token(exp="never"),
    "not yet": lambda a: a.token(nbf=int(time.time()) + 300),
    "no subject": lambda a: a.token(sub=None),
    "another one's key under its id": lambda a: a.token(EVIL),
    "a key that comes along": lambda a: a.token(EVIL, {"jwk": EVIL.public, "kid": None}),
    "a key that is elsewhere": lambda a: a.token(EVIL, {"jku": f"{a.url}/evil", "x5u": f"{a.url}/evil"}),
    "an id that is a path": lambda a: a.token(EVIL, {"kid": "../../../../dev/null"}),
    "an id that is a statement": lambda a: a.token(EVIL, {"kid": "x' UNION SELECT 'a"}),
    "a weak key": weak,
    "an ID token": lambda a: a.token(header={"typ": "JWT"}),
    "what must be understood": lambda a: a.token(header={"crit": ["exp"]}),
    "no signature": lambda a: f"{part({'alg': 'none', 'typ': 'at+jwt', 'kid': 'one'})}.{part(a.claims())}.",
    "the public key as a secret": by_public_key,
    "other claims": lambda a: changed(a.token()),
    "an algorithm that is a list": lambda a: f"{part({'alg': ['RS256'], 'typ': 'at+jwt'})}.{part(a.claims())}.AAAA",
    "deep": lambda _: f"{part(b'[' * 5000)}.e30.AAAA",
    "long": lambda a: a.token(padding="x" * 9000),
    "no token": lambda _: "abc",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_a_good_token_of_the_issuer_lets_nobody_in(post: Post, authority: Authority, what: str) -> None:
    authority.keys = [authority.first.public, WEAK.public]
    token = BAD[what](authority)
    for answer in (
        ask(post, token),
        Store(post.caller(token)).verb("own"),
        Store(post.caller(token)).post("stream", {}),
    ):
        assert answer.status == 401, answer.body
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert f'resource_metadata="{METADATA}"' in answer.headers["www-authenticate"]
    assert not any("evil" in path for path in authority.asked), "a token says where a key is, and it is fetched"
    authority.keys = [authority.first.public]


def test_an_edge_of_the_issuers_subject_is_nobody_elses(post: Post, authority: Authority) -> None:
    ann, bob = (Store(post.caller(authority.token(sub=sub))) for sub in ("ann edge", "bob edge"))
    ann.call("create_mailbox", name="annedge")
    who = ann.who()
    sent = ann.call("send", who, to="annedge", body="secret")
    theirs, nobodys = (bob.verb("own", bob.who(mailbox=name)) for name in ("annedge", "nobody0"))
    assert (theirs.status, theirs.body.replace(b"annedge", b"nobody0")) == (nobodys.status, nobodys.body)
    assert bob.verb("read", who, id=sent["id"]).status == 404
    reader = Store(post.caller(authority.token(sub="ann edge", scope="mailbox:read")))
    assert reader.verb("send", reader.who(), to="annedge", body="x").status == 403
    assert reader.post("files", b"x", content_type="application/octet-stream", **FILE).status == 403
    later = Store(post.caller(authority.token(sub="ann edge", exp=int(time.time()) + 900)))
    assert later.call("send", who, to="annedge", body="secret")["id"] == sent["id"], "a new token, the same machine"


FILE = {"mailbox_file": "0" * 32, "mailbox_offset": "0"}


def test_clients_are_told_where_a_token_is_to_be_had(post: Post, authority: Authority) -> None:
    nobody = post.nobody()
    assert f'resource_metadata="{METADATA}"' in nobody.ask(body={}).headers["www-authenticate"]
    for path in ("", "/mcp"):
        said = nobody.ask("GET", f"/.well-known/oauth-protected-resource{path}")
        assert said.status == 200
        assert (said.json["resource"], said.json["authorization_servers"]) == (AUDIENCE, [authority.url])
    assert nobody.ask("GET", "/.well-known/oauth-protected-resource", host="evil.example").status == 421


def test_without_an_issuer_nothing_of_it_is_there(home: Served) -> None:
    nobody = Caller(home.port, None)
    assert nobody.ask("GET", "/.well-known/oauth-protected-resource").status == 404
    assert "resource_metadata" not in nobody.ask(body={}).headers["www-authenticate"]


def test_the_audit_names_the_principal_of_the_issuer_and_no_token(post: Post, authority: Authority) -> None:
    token = authority.token(sub="zoe")
    post.caller(token, mailbox_address="zoe").call("create_mailbox")
    log = post.home.path / "audit.jsonl"
    deadline = time.monotonic() + 10
    while f"{authority.url}#zoe" not in (text := log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    assert token not in text
    assert token.split(".")[2] not in text


# -- keys, with a clock of the test's


class Watch:
    """Seconds that the test lets pass."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def verified(verifier: Verifier, token: str) -> bool:
    async def verify() -> bool:
        return await verifier.verify_token(token) is not None

    return anyio.run(verify)


@pytest.fixture
def issuer() -> Iterator[Authority]:
    with Authority().running() as running:
        yield running


def judge(issuer: Authority, watch: Watch, jwks: str | None = None) -> Verifier:
    return Verifier(issuer.url, AUDIENCE, Keys(issuer.url, jwks, watch))


def test_a_new_key_is_fetched_when_a_token_needs_it_and_an_old_one_is_forgotten(issuer: Authority) -> None:
    verifier = judge(issuer, Watch())
    old = issuer.token()
    assert verified(verifier, old)
    issuer.keys = [issuer.second.public]
    assert verified(verifier, issuer.token(issuer.second))
    assert not verified(verifier, old), "a key that was withdrawn is still good"


def test_unknown_keys_are_asked_for_once_a_minute_whoever_sends_how_many(issuer: Authority) -> None:
    watch = Watch()
    verifier = judge(issuer, watch)
    assert verified(verifier, issuer.token())
    stranger = Key("stranger")
    for number in range(20):
        assert not verified(verifier, issuer.token(stranger, {"kid": f"made up {number}"}))
    assert issuer.asked.count("/keys") == 2
    watch.now += UNKNOWN_EVERY
    assert not verified(verifier, issuer.token(stranger))
    assert issuer.asked.count("/keys") == 3


def test_tokens_that_come_at_once_fetch_the_keys_once(issuer: Authority) -> None:
    verifier = judge(issuer, Watch())
    tokens = [issuer.token(jti=str(number)) for number in range(20)]

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for token in tokens:
                tasks.start_soon(verifier.verify_token, token)

    anyio.run(all_of_them)
    assert issuer.asked.count("/keys") == 1


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (500, None),
        (302, None),
        (200, b"[" * 100_000),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": [' + b" " * 300_000 + b"]}"),
    ],
    ids=["error", "redirect", "deep", "no object", "no keys", "huge"],
)
def test_keys_that_cannot_be_had_make_no_token_good_or_bad(
    issuer: Authority, status: int, document: bytes | None
) -> None:
    watch = Watch()
    verifier = judge(issuer, watch, f"{issuer.url}/keys")
    issuer.status, issuer.document = status, document
    with pytest.raises(Unavailable):
        verified(verifier, issuer.token())
    assert "/elsewhere" not in issuer.asked
    issuer.status, issuer.document = 200, None
    watch.now += 10
    assert verified(verifier, issuer.token()), "they are asked for again"


def test_metadata_that_leads_elsewhere_is_not_followed(issuer: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with Authority().running() as elsewhere:
        elsewhere.keys = issuer.keys
        said = json.dumps({"issuer": issuer.url, "jwks_uri": f"{elsewhere.url}/keys"}).encode()
        monkeypatch.setattr(issuer, "answer", lambda _: said)
        with pytest.raises(Unavailable):
            verified(judge(issuer, Watch()), issuer.token())
        assert elsewhere.asked == []
        assert verified(judge(issuer, Watch(), f"{elsewhere.url}/keys"), issuer.token()), (
            "but when the operator says so"
        )


def test_known_keys_outlast_an_issuer_that_is_down_but_not_for_ever(issuer: Authority) -> None:
    watch = Watch()
    verifier = judge(issuer, watch)
    assert verified(verifier, issuer.token())
    issuer.status = 500
    watch.now += 3 * 3600
    assert verified(verifier, issuer.token(jti="2"))
    watch.now += 24 * 3600
    with pytest.raises(Unavailable):
        verified(verifier, issuer.token(jti="3"))


def test_a_server_whose_issuer_is_down_lets_tokens_of_ours_in(new_home: Callable[..., Served]) -> None:
    with Authority().running() as down:
        token = down.token()
    post = Post(new_home("--oauth-issuer", down.url, "--oauth-audience", AUDIENCE).start())
    answer = ask(post, token)
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert ask(post, post.home.token).status == 200


@pytest.mark.parametrize(
    "arguments",
    [
        ("--oauth-issuer", "https://a.example"),
        ("--oauth-audience", "https://a.example"),
        ("--oauth-issuer", "http://a.example", "--oauth-audience", AUDIENCE),
        ("--oauth-issuer", "https://a.example#b", "--oauth-audience", AUDIENCE),
        ("--oauth-issuer", "https://a.example", "--oauth-audience", AUDIENCE, "--no-auth"),
        ("--oauth-issuer", "https://a.example", "--oauth-audience", AUDIENCE, "--oauth-jwks", "file:///etc/passwd"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: tuple[str, ...]) -> None:
    given: Json = vars(commands.parse("serve", arguments))
    with pytest.raises(Refusal, match="--oauth"):
        config.serving(**given)
