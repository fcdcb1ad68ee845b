"""The folder that ships: whole or absent, and every change to it is named."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipworthy import files, records
from shipworthy.errors import Failed, NotFound, Refused
from shipworthy.release import bundle

MODEL = b"the bytes of a model" * 1000
PARTS = {"model.onnx": MODEL, "signature.json": b"{}", "baseline.npz": b"\x00\x01"}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def write(store, parts=PARTS, **changes):
    about = {"name": "digits", "variant_name": "int8", "source": "a" * 64, "model": "b" * 64, "variant": sha(MODEL)}
    return bundle.write(store, parts, **about | changes)


def test_the_digest_is_that_of_the_manifest_and_the_manifest_names_every_file(tmp_path):
    digest, made = write(tmp_path)
    folder = tmp_path / digest
    assert sha((folder / "manifest.json").read_bytes()) == digest
    assert {name: entry.digest for name, entry in made.files.items()} == {name: sha(data) for name, data in PARTS.items()}
    assert made.files["baseline.npz"].size_bytes == 2
    assert {path.name for path in folder.iterdir()} == {*PARTS, "manifest.json"}
    assert bundle.verify(folder) == made
    assert bundle.open_bundle(tmp_path, digest) == (folder, made)


def test_the_same_content_is_the_same_folder_whatever_the_order_and_the_origin(tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(MODEL)
    store = tmp_path / "store"
    first, _ = write(store)
    inode = (store / first / "model.onnx").stat().st_ino
    second, _ = write(store, dict(reversed([*PARTS.items()])) | {"model.onnx": file})
    assert second == first
    assert (store / first / "model.onnx").stat().st_ino == inode
    assert [path.name for path in store.iterdir()] == [first]


@pytest.mark.parametrize("change", [{"name": "x"}, {"variant_name": "x"}, {"source": "c" * 64}, {"model": "c" * 64}])
def test_whatever_is_said_of_the_content_is_part_of_the_digest(tmp_path, change):
    assert write(tmp_path)[0] != write(tmp_path, **change)[0]


def test_everybody_may_read_a_bundle_and_nobody_writes_it_by_accident(tmp_path):
    digest, _ = write(tmp_path)
    assert (tmp_path / digest).stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / digest).iterdir()} == {0o444}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", ".hidden", "", "a\\b", "a\nb", "a" * 101])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path, name):
    with pytest.raises(Refused, match="cannot hold a file of that name"):
        write(tmp_path / "store", PARTS | {name: b"x"})
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("parts", [{"signature.json": b"{}"}, PARTS | {"manifest.json": b"{}"}])
def test_the_model_must_be_there_and_the_manifest_is_ours(tmp_path, parts):
    with pytest.raises(Refused, match="not the parts of a bundle"):
        write(tmp_path, parts)


def test_a_model_that_is_not_the_variant_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(Refused, match="not the variant that was measured"):
        write(tmp_path, variant="c" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(Refused, match="there is no file"):
        write(tmp_path / "store", PARTS | {"model.onnx": tmp_path / "no.onnx"})
    assert list((tmp_path / "store").iterdir()) == []


def unlock(path):
    path.chmod(0o644)
    return path


def flip(path):
    data = bytearray(unlock(path).read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def swap_for_link(path):
    outside = path.parent.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


TAMPERED = [
    (lambda f: flip(f / "model.onnx"), "changed: model.onnx"),
    (lambda f: unlock(f / "model.onnx").write_bytes(b""), "changed: model.onnx"),
    (lambda f: swap_for_link(f / "model.onnx"), "changed: model.onnx"),
    (lambda f: (f / "signature.json").unlink(), "missing: signature.json"),
    (lambda f: (f / "extra.so").touch(), "extra: extra.so"),
    (lambda f: (f / "sub").mkdir(), "extra: sub"),
    (lambda f: (f / "model.onnx").rename(f / "model2.onnx"), "missing: model.onnx; extra: model2.onnx"),
    (lambda f: flip(f / "manifest.json"), "manifest.json sha256"),
]


@pytest.mark.parametrize(("tamper", "named"), TAMPERED, ids=[named for _, named in TAMPERED])
def test_every_change_is_named(tmp_path, tamper, named):
    digest, _ = write(tmp_path)
    tamper(tmp_path / digest)
    with pytest.raises(Refused, match="was changed") as refused:
        bundle.open_bundle(tmp_path, digest)
    assert named in refused.value.found
    if "manifest" not in named:
        with pytest.raises(Refused, match="was changed"):
            bundle.verify(tmp_path / digest)


def test_a_damaged_bundle_is_not_reused(tmp_path):
    digest, _ = write(tmp_path)
    flip(tmp_path / digest / "model.onnx")
    with pytest.raises(Refused, match="changed"):
        write(tmp_path)


def edit(folder, change):
    manifest = unlock(folder / "manifest.json")
    plain = json.loads(manifest.read_bytes())
    change(plain)
    manifest.write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain: plain.update(format=2), "has a format"),
        (lambda plain: plain.update(variant="c" * 64), "is not the variant"),
        (lambda plain: plain["files"].update({"../../x": plain["files"]["model.onnx"]}), "cannot hold a file"),
        (lambda plain: plain.pop("files"), "not a Bundle record"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, change, said):
    digest, _ = write(tmp_path)
    edit(tmp_path / digest, change)
    with pytest.raises(Refused, match=said):
        bundle.verify(tmp_path / digest)


def test_fields_of_a_newer_writer_are_kept(tmp_path):
    digest, made = write(tmp_path)
    edit(tmp_path / digest, lambda plain: plain.update(signed_by="somebody"))
    again = bundle.verify(tmp_path / digest)
    assert again.files == made.files
    assert records.dump(again)["signed_by"] == "somebody"


def test_what_is_not_there_is_not_found(tmp_path):
    digest, _ = write(tmp_path / "store")
    with pytest.raises(NotFound, match="no bundle"):
        bundle.open_bundle(tmp_path / "store", "0" * 64)
    with pytest.raises(NotFound, match="no bundle"):
        bundle.open_bundle(tmp_path / "store" / digest, f"../{digest}")
    with pytest.raises(NotFound, match="not a bundle"):
        bundle.verify(tmp_path)


def test_a_full_disk_is_our_failure_and_leaves_nothing(tmp_path):
    script = f"""
import resource, sys
from pathlib import Path
from shipworthy.errors import Failed
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_bundle
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    test_bundle.write(Path({str(tmp_path)!r}))
except Failed as error:
    print(error.what)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "disk is full" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_made_is_our_failure(tmp_path, monkeypatch):
    def forbidden(path, *args, **rest):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.Path, "mkdir", forbidden)
    with pytest.raises(Failed, match="cannot be written"):
        write(tmp_path / "store")


def test_a_killed_writer_leaves_a_whole_bundle_or_none(tmp_path):
    script = f"""
import sys, hashlib, itertools
from pathlib import Path
from shipworthy.release import bundle
print("go", flush=True)
for n in itertools.count():
    data = b"%d " % n * 200_000
    bundle.write(Path({str(tmp_path)!r}), {{"model.onnx": data}}, name="n", variant_name="v", source="s", model="m",
                 variant=hashlib.sha256(data).hexdigest())
"""
    for delay in (0.0, 0.003, 0.007, 0.011, 0.02, 0.05):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    published = [path for path in tmp_path.iterdir() if not path.name.startswith("draft-")]
    assert published
    for folder in published:
        bundle.verify(folder, folder.name)
