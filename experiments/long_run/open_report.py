"""How long a report takes to open in headless Chromium, as the page itself measures it; and a picture of it.

Usage: python experiments/long_run/open_report.py runs/<name>/report.html [--times 5] [--picture report.png]

What is opened is a copy of the page with one more script, which writes the times into the title, and without the
security policy, which would refuse that script.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PROBE = """<script>
addEventListener("load", () => {
  const height = document.body.getBoundingClientRect().height;
  const count = document.getElementsByTagName("*").length;
  if (height > 0) document.title = `loaded ${Math.round(performance.now())} ${count}`;
});
</script></body>"""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
LOADED = re.compile(r"<title>loaded (\d+) (\d+)")


def opened(page: Path, chromium: str, scratch: Path) -> tuple[int, int]:
    """Milliseconds from the start of the navigation to the end of ``load``, laid out; and elements of the page."""
    flags = [*FLAGS, f"--user-data-dir={tempfile.mkdtemp(dir=scratch)}", "--dump-dom"]
    dom = subprocess.run([chromium, *flags, f"file://{page}"], capture_output=True, text=True, check=True, timeout=120)
    found = LOADED.search(dom.stdout)
    if found is None:
        raise SystemExit("the page was not drawn")
    return int(found.group(1)), int(found.group(2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chrome"
    text = given.report.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        page = scratch / "page.html"
        page.write_text(POLICY.sub("", text).replace("</body>", PROBE), encoding="utf-8")
        found = [opened(page, chromium, scratch) for _ in range(given.times)]
        if given.picture:
            flags = [*FLAGS, f"--user-data-dir={scratch / 'picture'}", "--window-size=1400,6000"]
            place = f"--screenshot={given.picture.resolve()}"
            page = given.report.resolve()
            subprocess.run([chromium, *flags, place, f"file://{page}"], capture_output=True, check=True, timeout=120)
    times = [milliseconds for milliseconds, _ in found]
    fields = {
        "size_MB": f"{given.report.stat().st_size / 1e6:.2f}",
        "opened_ms": " ".join(map(str, times)),
        "median_ms": f"{statistics.median(times):.0f}",
        "elements": found[0][1],
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    print("  ".join(f"{key}={value}" for key, value in fields.items()))


if __name__ == "__main__":
    main()
