"""A report page in a real browser."""

import pytest

from support.browser import CHROMIUM, DRIVER, browser

needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium with its driver")


@pytest.fixture(scope="module")
def page(digits_run):
    """The run's page in Chromium."""
    with browser() as page:
        page.open(digits_run / "report.html")
        yield page


@needs_browser
class TestInChromium:
    def test_it_opens_without_error_and_asks_for_nothing(self, page, digits_run):
        assert page.run("return document.readyState") == "complete"
        assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0 || i.hidden)")
        own = (digits_run / "report.html").resolve().as_uri()
        assert {u for u in page.requests() if not u.startswith(("data:", "chrome"))} == {own}
        assert page.console() == []

    def test_the_slider_shows_each_step(self, page):
        count = page.run("return document.querySelectorAll('#frames img').length")
        assert count == 4
        shown = set()
        for k in range(count):
            page.run(
                "const s = document.getElementById('slider'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))", k
            )
            visible = page.run(
                "return [...document.querySelectorAll('#frames img')].filter(i => i.getClientRects().length).map(i => i.alt)"
            )
            assert visible == [f"Samples at step {20 * k}"]
            assert page.run("return document.getElementById('label').value").startswith(f"step {20 * k}")
            shown.update(visible)
        assert len(shown) == count

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_it_fits_every_screen_and_is_legible(self, page, width, scheme):
        page.screen(width, 800, mobile=width < 500)
        page.media(scheme)
        assert page.run("return document.documentElement.scrollWidth") <= width
        worst = page.run(CONTRAST)
        assert worst["ratio"] >= 4.5, worst

    def test_the_policy_stops_what_was_not_ours(self, page, digits_run, tmp_path):
        """Were a script or an address to slip through the escaping, the page would not run or fetch it."""
        text = (digits_run / "report.html").read_text()
        evil = tmp_path / "evil.html"
        evil.write_text(
            text.replace("</main>", "<script>bad = 1</script><img src='http://127.0.0.1:9/x.png' onerror='bad=2'></main>")
        )
        page.open(evil)
        assert page.run("return window.bad === undefined")
        assert page.run("return document.getElementById('slider') !== null")
        assert any("Content Security Policy" in message for message in page.console())


# The lowest contrast of any visible text with what lies behind it, as WCAG 2 computes it.
CONTRAST = """
const light = c => { const v = c.slice(0, 3).map(x => x / 255)
  .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const parse = s => (s.match(/[\\d.]+/g) || []).map(Number);
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
let worst = { ratio: 99 };
for (const e of document.querySelectorAll("body *")) {
  if (!e.getClientRects().length || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const style = getComputedStyle(e), svg = e.closest("svg");
  if (svg && ["title", "desc"].includes(e.tagName)) continue;
  const a = light(parse(svg ? style.fill : style.color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < worst.ratio) worst = { ratio, text: e.textContent.slice(0, 40), tag: e.tagName };
}
return worst;
"""
