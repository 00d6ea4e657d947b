"""The figure of docs/explorer.md: the page of igr explore as it opens.

python docs/figures/explorer.py
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from igr.explorer.process import serving

OUT = Path(__file__).with_name("explorer.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"


def main() -> None:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"expected one of the browsers {', '.join(BROWSERS)}; got none; install one of them")
    with serving() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(server.address)
        page.wait_for_function(READY)
        page.screenshot(path=OUT, full_page=True)
        browser.close()
    print(f"written: {OUT}")


if __name__ == "__main__":
    main()
