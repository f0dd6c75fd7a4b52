"""Makes the pictures of gallery.md anew from a suite's summary:  python docs/gallery.py results/summary/quickstart

Takes a Chromium (``apt-get install chromium``), and colours reduced to a palette to keep the files small.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).with_name("pictures")
PAGE = {"page": (1200, 2900, "light"), "page_dark": (1200, 1250, "dark"), "page_phone": (500, 1500, "light")}
COLOURS = 256


def kept(name: str, png: bytes) -> None:
    """Writes a picture, its colours reduced to a palette in which small marks keep theirs."""
    path, picture = PICTURES / f"{name}.png", Image.open(io.BytesIO(png)).convert("RGB")
    reduced = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def screen(page: Path, width: int, height: int, scheme: str) -> bytes:
    """What Chromium shows of a page in a window of this size, its charts drawn."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder}", f"--screenshot={folder}/shot.png", f"--window-size={width},{height}"]
        command += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", "--virtual-time-budget=8000"]
        subprocess.run([*command, page.absolute().as_uri()], check=True, stderr=subprocess.DEVNULL)
        return Path(folder, "shot.png").read_bytes()


def main(summary: Path) -> None:
    PICTURES.mkdir(exist_ok=True)
    for figure in sorted(summary.glob("*.png")):
        kept(figure.stem.removeprefix(f"{summary.name}_"), figure.read_bytes())
    for name, (width, height, scheme) in PAGE.items():
        kept(name, screen(summary / "report.html", width, height, scheme))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
