"""S8: https, a known size and hash, whole or not at all; against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from recdistill.cli import main
from recdistill.cli.completion import complete_line
from recdistill.cli.words import Words
from recdistill.config.check import check_plain
from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.data import download as module
from recdistill.data.download import RemoteFile, download
from recdistill.errors import InputError, ResourceError
from recdistill.stages.download import remote_files

CONTENT = b"user,item\n01,NA\n" * 1000
REPO = Path(__file__).resolve().parents[2]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """What is at each path: content, a status, or where to go on."""

    pages: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        page = self.pages.get(self.path, 404)
        if isinstance(page, str):
            self.send_response(302)
            self.send_header("Location", page)
            self.end_headers()
        elif isinstance(page, int):
            self.send_error(page)
        else:
            content, said = page if isinstance(page, tuple) else (page, len(page))
            self.send_response(200)
            if said is not None:
                self.send_header("Content-Length", str(said))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing to the screen."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl made no certificate")
    return folder


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address; the certificate is trusted the way a user would have it."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    Server.pages, Server.asked = {}, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    running.socket = context.wrap_socket(running.socket, server_side=True)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"https://localhost:{running.server_port}"
    running.shutdown()
    running.server_close()


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def known(url: str, content: bytes = CONTENT, **more: Any) -> RemoteFile:
    return RemoteFile(url, sha(content), len(content), **more)


def test_a_good_file(server: str, tmp_path: Path) -> None:
    Server.pages = {"/a/log.csv?x=1": CONTENT}
    told: list[tuple[str, int, int]] = []
    found = download(
        [known(f"{server}/a/log.csv?x=1")], tmp_path / "data" / "set", report=lambda *seen: told.append(seen)
    )
    assert found == [tmp_path / "data" / "set" / "log.csv"]
    assert found[0].read_bytes() == CONTENT
    assert told[-1] == ("log.csv", len(CONTENT), len(CONTENT))
    assert left(tmp_path) == ["data", "data/set", "data/set/log.csv"]


def test_an_archive_of_which_members_are_kept(server: str, tmp_path: Path) -> None:
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("x/log.csv", CONTENT)
        file.writestr("x/more", "no")
    Server.pages = {"/x.zip": packed.getvalue(), "/b": b"b", "/to": f"{server}/b"}
    files = [
        known(f"{server}/x.zip", packed.getvalue(), members=["x/log.csv"]), known(f"{server}/to", b"b", name="c.txt"),
    ]  # fmt: skip
    download(files, tmp_path / "set")
    assert left(tmp_path) == ["set", "set/c.txt", "set/log.csv"]
    assert (tmp_path / "set").stat().st_mode & 0o077 == 0o055
    with pytest.raises(InputError, match="is there already"):
        download(files, tmp_path / "set")


LONGER, SHORTER = CONTENT + b"x", CONTENT[:-1]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (CONTENT[:-1] + b"x", "has the SHA-256"),
        (SHORTER, "ended after 15,999 of 16,000"),
        ((SHORTER, len(CONTENT)), "ended after 15,999 of 16,000"),
        (LONGER, "larger than the 16,000"),
        ((LONGER * 9, None), "larger than the 16,000"),
        (404, "answered 404"),
        (500, "answered 500"),
        ("http://127.0.0.1:9/log.csv", "points to is not a plain https"),
        ("file:///etc/passwd", "is not allowed"),
        ("https://user:pw@localhost/log.csv", "points to is not a plain https"),
        ("/log.csv", "could not be fetched|answered 302"),  # in a circle
    ],
)
def test_nothing_is_left_of_a_wrong_one(page: Any, expected: str, server: str, tmp_path: Path) -> None:
    Server.pages = {"/good": b"good", "/log.csv": page}
    with pytest.raises(InputError, match=expected) as caught:
        download([known(f"{server}/good", b"good"), known(f"{server}/log.csv")], tmp_path / "new" / "deep" / "set")
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) < 10
    assert left(tmp_path) == []


def test_a_hash_is_enough_for_a_file_of_unknown_size(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Server.pages = {"/log.csv": CONTENT}
    download([RemoteFile(f"{server}/log.csv", sha(CONTENT).upper())], tmp_path / "set")
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(InputError, match="larger than the 100"):
        download([RemoteFile(f"{server}/log.csv", sha(CONTENT))], tmp_path / "other")
    assert left(tmp_path) == ["set", "set/log.csv"]


def test_an_unsafe_archive_leaves_nothing(server: str, tmp_path: Path) -> None:
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name in ("x/log.csv", "../evil"):
            info = tarfile.TarInfo(name)
            info.size = len(CONTENT)
            file.addfile(info, io.BytesIO(CONTENT))
    Server.pages = {"/x.tar.gz": packed.getvalue()}
    with pytest.raises(InputError, match="leads out of the folder"):
        download([known(f"{server}/x.tar.gz", packed.getvalue(), members=["x/log.csv"])], tmp_path / "set")
    assert left(tmp_path) == []


def test_a_certificate_that_nobody_trusts(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    Server.pages = {"/log.csv": CONTENT}
    with pytest.raises(InputError, match="could not be fetched") as caught:
        download([known(f"{server}/log.csv")], tmp_path / "set")
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
    assert Server.asked == []
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["http://h/x", "ftp://h/x", "file:///etc/passwd", "data:,x", "x", "https://u:p@h/x", "https:///x"]
)
def test_only_plain_https(url: str) -> None:
    with pytest.raises(InputError, match="not a plain https") as caught:
        RemoteFile(url, "0" * 64)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("digits", ["", "0" * 63, "g" * 64, "0" * 64 + "\n"])
def test_no_hash(digits: str) -> None:
    with pytest.raises(InputError, match="no SHA-256"):
        RemoteFile("https://h/x", digits)


def test_the_opener_knows_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for url in ("http://127.0.0.1:9/x", "file:///etc/hostname", "ftp://127.0.0.1/x", "data:text/plain,x"):
        with pytest.raises(OSError):
            module.open_https(url)


def test_the_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            seen.append(self.path)
            self.send_error(403)

        def log_message(self, *_: Any) -> None:
            """Nothing to the screen."""

    running = http.server.HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=running.handle_request, daemon=True).start()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(InputError, match="could not be fetched"):
        download([known("https://example.invalid/log.csv")], tmp_path / "set")
    running.server_close()
    assert seen == ["example.invalid:443"]


class Broken(io.BytesIO):
    """A stream that gives some, and then an error."""

    def __init__(self, error: BaseException):
        super().__init__(CONTENT)
        self.error = error

    def read(self, size: int | None = -1) -> bytes:  # noqa: ARG002
        if self.tell():
            raise self.error
        return super().read(10)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt), (TimeoutError("slow"), InputError),
        (ConnectionResetError(104, "reset"), InputError), (ssl.SSLError("bad record"), InputError),
        (OSError(28, "No space left on device"), ResourceError),
    ],
)  # fmt: skip
def test_nothing_is_left_when_it_stops_half_way(
    error: BaseException, expected: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(expected):
        download([known("https://h/log.csv")], tmp_path / "deep" / "set", opener=lambda _: Broken(error))
    assert left(tmp_path) == []


def test_no_space(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="MiB are needed") as caught:
        download([RemoteFile("https://h/x", "0" * 64, 10**18)], tmp_path / "set")
    assert caught.value.exit_code == 4
    assert left(tmp_path) == []


CATALOGUE = sorted((REPO / "conf" / "download").glob("*.yaml"))


@pytest.mark.parametrize("file", CATALOGUE, ids=[file.stem for file in CATALOGUE])
def test_every_known_data_set(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert set(content) == {"folder", "files", "terms", "use"}
    assert f"# Try: recdistill download {file.stem}\n" in text
    assert "hash" in text.partition("folder:")[0], "says where size and hash are from"
    for entry in content["files"]:
        assert RemoteFile(**entry).bytes
        assert "githubusercontent" not in entry["url"] or len(entry["url"].split("/")[5]) == 40
    assert content["use"].startswith("recdistill data data=")
    assert (REPO / "conf" / "data" / f"{content['use'].rpartition('=')[2]}.yaml").is_file()


@pytest.mark.parametrize("name", [file.stem for file in CATALOGUE])
def test_every_known_data_set_composes(name: str) -> None:
    with hydra_session(find_sources([], [])):
        config = resolve(compose_config([f"download={name}"]))
    assert check_plain(config) == []
    assert len(remote_files(config["download"])) == len(config["download"]["files"])


PLACES = {"gowalla": "gowalla", "citeulike_a": "citeulike-a", "beauty": "amazon-beauty-seq", "lastfm": "lastfm-hetrec"}


@pytest.mark.parametrize("name", PLACES)
def test_the_hashes_are_those_of_the_files(name: str) -> None:
    folder = REPO.parent / "shared" / "data" / PLACES[name]
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    for entry in yaml.safe_load((REPO / "conf" / "download" / f"{name}.yaml").read_text(encoding="utf-8"))["files"]:
        content = (folder / RemoteFile(**entry).file_name).read_bytes()
        assert (len(content), sha(content)) == (entry["bytes"], entry["sha256"])


class TestVerb:
    def run(self, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
        code = main(["download", *words])
        seen = capsys.readouterr()
        return code, seen.out + seen.err

    def test_any_file_whose_hash_is_given(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Server.pages = {"/log.csv": CONTENT}
        address = f"download.url={server}/log.csv"
        code, text = self.run(capsys, address, f"download.sha256={sha(CONTENT)}", "download.root=in")
        assert code == 0
        assert left(tmp_path) == ["in", "in/log.csv", "in/log.csv/log.csv"]
        assert "terms: those of its publisher" in text
        code, text = self.run(capsys, address)
        assert (code, "SHA-256 is known" in text) == (2, True)
        code, text = self.run(capsys, address, f"download.sha256={'0' * 64}")
        assert (code, "nothing is kept" in text) == (2, True)
        assert left(tmp_path) == ["in", "in/log.csv", "in/log.csv/log.csv"]

    def test_a_data_set_of_the_users_own_folder(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The positional name, terms before anything is asked for, and what to do next."""
        monkeypatch.chdir(tmp_path)
        Server.pages = {"/log.csv": CONTENT}
        entry = {"url": f"{server}/log.csv", "bytes": len(CONTENT), "sha256": sha(CONTENT)}
        mine = {"folder": "mine", "files": [entry], "terms": "ask \x1b[31mme", "use": "recdistill data data=csv"}
        (tmp_path / "conf" / "download").mkdir(parents=True)
        (tmp_path / "conf" / "download" / "mine.yaml").write_text(yaml.safe_dump(mine))
        code, text = self.run(capsys, "mine", "--config-dir", "conf")
        assert code == 0, text
        assert "next: recdistill data data=csv data.path=data/mine" in text
        assert "\x1b" not in text
        assert (tmp_path / "data" / "mine" / "log.csv").read_bytes() == CONTENT
        assert not (tmp_path / "outputs").exists()

    def test_tab_completes_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COMP_LINE", "")
        assert complete_line("recdistill download ml1", Words()) == ["ml100k", "ml1m"]
        assert complete_line("recdistill download ml1m download.ro", Words()) is None  # Hydra knows keys

    def test_what_there_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, text = self.run(capsys)
        assert code == 0
        assert all(f"  {file.stem} " in text for file in CATALOGUE)

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["ml1n"], "download=ml1m"), (["ml1m", "gowalla"], "one data set"),
            (["download.root=x"], "nothing to fetch"),
            (["download.url=http://h/x", f"download.sha256={'0' * 64}"], "https"), (["ml1m", "-m"], "no grid"),
            (["ml1m", "download.folder=../x"], "where: download.folder"),
        ],
    )  # fmt: skip
    def test_wrong_words(
        self, words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(module, "open_https", lambda url: pytest.fail(f"asked for {url}"))
        code, text = self.run(capsys, *words)
        assert code == 2
        assert expected in text
        assert left(tmp_path) == []


def test_ctrl_c_ends_with_130_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "open_https", lambda _: Broken(KeyboardInterrupt()))
    assert main(["download", "ml1m"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert left(tmp_path) == []


def test_nothing_opens_a_socket_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *_: pytest.fail("asked"))
    with pytest.raises(InputError, match="there already"):
        download([known("https://h/x")], tmp_path)
