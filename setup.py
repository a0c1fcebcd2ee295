"""Makes source distributions reproducible: the same sources give the same archive, byte for byte.

setuptools writes the user's name, umask and time into a source distribution. Here the time is SOURCE_DATE_EPOCH
(reproducible-builds.org), which wheels already use. The archive names no owner of a file, and
all users may read the files.
"""

import gzip
import os
import tarfile
import time
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist


class ReproducibleSdist(sdist):
    """An sdist whose bytes depend on the sources and SOURCE_DATE_EPOCH alone."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):  # noqa: D102
        folder, path = Path(base_dir), Path(f"{base_name}.tar.gz")
        date = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=date) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for member in sorted(member for member in folder.rglob("*") if member.is_file()):
                info = tarfile.TarInfo(member.as_posix())
                info.size, info.mtime = member.stat().st_size, date
                info.mode = 0o755 if member.stat().st_mode & 0o100 else 0o644
                with member.open("rb") as content:
                    archive.addfile(info, content)
        return str(path)


# All users may read the files of a wheel, too.
os.umask(0o022)
setup(cmdclass={"sdist": ReproducibleSdist})
