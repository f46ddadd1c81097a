"""Static files: the vendored ones are unmodified, and each address belongs to one content."""

import re
from hashlib import sha256
from pathlib import Path

from server.viewer import assets

VENDOR = Path(assets.__file__).parent / "static/vendor"


def test_vendored_files_are_those_whose_hashes_were_recorded():
    lines = (VENDOR / "SHA256SUMS").read_text("ascii").splitlines()
    recorded = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {str(path.relative_to(VENDOR)) for path in VENDOR.glob("*/**/*") if path.is_file()}
    assert found == recorded.keys() and len(found) == 7
    for name, digest in recorded.items():
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_folder_has_its_licence_and_origin():
    about = (VENDOR / "README.md").read_text("utf-8")
    folders = [path for path in VENDOR.iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        assert (folder / "LICENSE").read_bytes()
        (row,) = [line for line in about.splitlines() if line.startswith(f"| `{folder.name}/`")]
        assert "npm package" in row and "sha512-" in row


def test_what_pages_load_is_small():
    """Without Swagger UI, which only /docs loads."""
    known = {path.name for path in (VENDOR / "swagger-ui").iterdir()}
    sizes = {name: len(asset.content) for name, asset in assets.by_name().items() if name not in known}
    assert len(sizes) >= 10 and sum(sizes.values()) <= 120_000, sizes


def test_style_sheets_are_served_without_comments_and_spaces():
    def rules(text):
        return re.sub(r"/\*.*?\*/|\s", "", text, flags=re.DOTALL)

    for name, asset in assets.by_name().items():
        path = VENDOR.parent / name
        if name.endswith(".css") and path.is_file():
            served = asset.content.decode()
            assert rules(served) == rules(path.read_text("utf-8")), name
            strings = re.findall(r"\"[^\"\n]*\"|'[^'\n]*'", served)
            assert not re.search(r"[{};]", "".join(strings)), name  # spaces beside these signs are left out
            assert "/*" not in served and not re.search(r"^\s", served, re.MULTILINE), name
        else:  # scripts as they are read, and files of other projects
            (path,) = VENDOR.parent.glob(f"**/{name}")
            assert asset.content == path.read_bytes(), name


def test_an_address_has_the_hash_of_the_content():
    for name, asset in assets.by_name().items():
        stem, digest, suffix = asset.file.rsplit(".", 2)
        assert f"{stem}.{suffix}" == name and sha256(asset.content).hexdigest().startswith(digest)
        assert assets.by_file()[asset.file] is asset
