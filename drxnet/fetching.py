"""Download the open DRX-TD data set.

Figshare's public interface lists the files of an article with their MD5; every file is checked before it is used.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from drxnet.errors import DatasetError, UsageError
from drxnet.progress import Progress, silent

DRXTD_DOI = "10.6084/m9.figshare.25328578.v1"
"""DRX-TD, the data set of Zhong et al., Joule 8 (2024)."""

FIGSHARE = "https://api.figshare.com/v2"
_TIMEOUT_S = 30
_DOI = re.compile(r"10\.6084/m9\.figshare\.(\d+)(?:\.v(\d+))?$")


@dataclass(frozen=True)
class RemoteFile:
    """One file of an article."""

    name: str
    url: str
    size: int
    md5: str


def list_article(doi: str = DRXTD_DOI, *, api: str = FIGSHARE) -> list[RemoteFile]:
    """List the files of a figshare article.

    Raises:
        UsageError: not a figshare DOI, or the server cannot be reached.
        DatasetError: the answer is not the listing of an article with checksums.
    """
    match = _DOI.match(doi)
    if match is None:
        raise UsageError(f"A figshare DOI reads 10.6084/m9.figshare.NUMBER.vVERSION. Got {doi!r}.")
    url = f"{api}/articles/{match[1]}" + (f"/versions/{match[2]}" if match[2] else "")
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as answer:
            content = json.load(answer)
    except (URLError, TimeoutError) as error:
        raise UsageError(
            f"{url} cannot be reached ({error}). Download the files of doi:{doi} by hand into a folder and name it."
        ) from None
    except ValueError as error:
        raise DatasetError(f"{url}: not the listing of an article ({error}).") from None
    try:
        files = [
            RemoteFile(Path(f["name"]).name, f["download_url"], int(f["size"]), f["computed_md5"])
            for f in content["files"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{url}: not the listing of an article with checksums ({error!r} is missing).") from None
    if not files:
        raise DatasetError(f"{url}: the article holds no files.")
    return files


def fetch_article(
    folder: Path, doi: str = DRXTD_DOI, *, api: str = FIGSHARE, progress: Progress = silent
) -> list[Path]:
    """Download every file of a figshare article and check its MD5; archives are unpacked beside themselves.

    Files that are there already and intact are not downloaded again.

    Returns:
        The downloaded files.

    Raises:
        UsageError: the server cannot be reached.
        DatasetError: a file is not the one that figshare lists.
    """
    import pooch

    files = list_article(doi, api=api)
    found = []
    for number, file in enumerate(files, start=1):
        unpack = pooch.Unzip(extract_dir=f"{file.name}.unpacked") if file.name.endswith(".zip") else None
        try:
            pooch.retrieve(file.url, known_hash=f"md5:{file.md5}", fname=file.name, path=folder, processor=unpack)
        except ValueError:
            raise DatasetError(
                f"{file.name}: what {file.url} sent has not the MD5 {file.md5} that figshare lists. "
                "Nothing of it was kept; try again."
            ) from None
        except Exception as error:  # noqa: BLE001 - requests and urllib3 raise their own kinds
            raise UsageError(f"{file.url} cannot be downloaded ({error}).") from None
        found.append(folder / file.name)
        progress(number, len(files))
    return found
