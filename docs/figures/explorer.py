"""The figure of docs/explorer.md: the page of igr explore as it opens.

python docs/figures/explorer.py
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

OUT = Path(__file__).with_name("explorer.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"


def main() -> None:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"expected one of the browsers {', '.join(BROWSERS)}; got none; install one of them")
    process = subprocess.Popen(
        [sys.executable, "-m", "igr", "explore", "--no-browser", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = re.search(r"http://\S+/", process.stderr.readline() if process.stderr else "")
        if found is None:
            raise SystemExit("expected igr explore to start; it did not")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1300, "height": 900})
            page.goto(found[0])
            page.wait_for_function(READY)
            page.screenshot(path=OUT, full_page=True)
            browser.close()
    finally:
        process.terminate()
        process.wait()
    print(f"written: {OUT}")


if __name__ == "__main__":
    main()
