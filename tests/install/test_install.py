"""`make install DESTDIR=` and two foreign builds against it: pkg-config and find_package. Both run a real model."""

import json
import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
MODEL = TOP / "tests/models/med-mri-cls3d-synth/model.onnx"
SOURCE = TOP / "examples/run.c"


def execute(*command, **environment):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          env={**os.environ, **{key: str(value) for key, value in environment.items()}})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    execute("cmake", "--install", TOP / "build/release", "--prefix", "/usr", DESTDIR=folder)
    return folder


def library_folder(root):
    return next(root.glob("usr/lib/**/libpolestar.so")).parent


def test_layout(root):
    for pattern in ("usr/bin/polestar", "usr/include/polestar/polestar.h", "usr/lib/**/libpolestar.so.0",
                    "usr/lib/**/pkgconfig/polestar.pc", "usr/lib/**/cmake/polestar/polestarConfig.cmake",
                    "usr/share/man/man1/polestar-run.1", "usr/share/bash-completion/completions/polestar"):
        assert list(root.glob(pattern)), pattern


def test_completion_is_valid_shell(root):
    execute("bash", "-n", root / "usr/share/bash-completion/completions/polestar")


def test_only_our_symbols(root):
    symbols = execute("nm", "-D", "--defined-only", library_folder(root) / "libpolestar.so").splitlines()
    names = [line.split()[-1].split("@")[0] for line in symbols]
    assert names and all(name.startswith(("ps_", "POLESTAR_")) for name in names)


def test_headers_stand_alone(root, tmp_path):
    """Each public header compiles by itself, as C11 and as C++, with no warning."""
    for header in sorted((root / "usr/include/polestar").glob("*.h")):
        for compiler, standard, suffix in (("cc", "c11", "c"), ("c++", "c++17", "cpp")):
            source = tmp_path / f"one.{suffix}"
            source.write_text(f"#include <polestar/{header.name}>\n")
            execute(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
                    f"-I{root}/usr/include", source)


def test_the_demo_finds_its_models(root, tmp_path):
    shown = execute(root / "usr/bin/polestar", "demo", "compression", "--judged", 4, "--html", "", "--json",
                    LD_LIBRARY_PATH=library_folder(root), XDG_CACHE_HOME=tmp_path)
    assert [model["judged"] for model in json.loads(shown)["models"]] == [4, 4]


def test_pkg_config(root, tmp_path):
    library = library_folder(root)
    flags = execute("pkg-config", "--cflags", "--libs", "polestar", PKG_CONFIG_PATH=library / "pkgconfig").split()
    execute("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", SOURCE, *flags, "-o", tmp_path / "run")
    assert "output: f32 [1, 3]" in execute(tmp_path / "run", MODEL, LD_LIBRARY_PATH=library)


def test_find_package(root, tmp_path):
    execute("cmake", "-S", TOP / "tests/install/consumer", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={root}/usr",
            f"-DSOURCE={SOURCE}")
    execute("cmake", "--build", tmp_path)
    assert "output: f32 [1, 3]" in execute(tmp_path / "run", MODEL, LD_LIBRARY_PATH=library_folder(root))
